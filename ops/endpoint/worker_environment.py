"""What a worker process finds in its environment to work for this endpoint. Knows nothing of processes."""

import json
from collections.abc import Mapping
from pathlib import Path

from ops.endpoint.settings import LocalIntakeSettings

WORKER_LIMIT_MARGIN_SECONDS = 60.0  # a worker ends a job itself, with its own error, before we do
SHORTEST_BUDGET_SECONDS = 1.0


def worker_environment(
    inherited: Mapping[str, str],
    *,
    base_url: str,
    worker_id: str,
    key: str,
    endpoint_id: str,
    ping_seconds: int,
    execution_timeout_seconds: float,
    data: Path,
    models: str | None,
    storage: Mapping[str, str] | None,
    gpu: str | None,
) -> dict[str, str]:
    """The environment of one worker.

    Args:
        inherited: the endpoint's own environment; what it says of the worker's limits and models stays.
        base_url: `http://127.0.0.1:PORT/v2/ENDPOINT`.
        worker_id: told apart by it.
        key: what it must send to be let in.
        endpoint_id: named in its logs.
        ping_seconds: time between heartbeats.
        execution_timeout_seconds: the endpoint's limit for a job.
        data: the endpoint's folder; the worker's temporary files and home lie in it.
        models: `auto`, `official` or `lite`; None leaves it to the environment.
        storage: the `BUCKET_*` settings of the store beside the endpoint; None if there is none.
        gpu: the one device it may see; None for all.
    """
    not_inherited = ("RUNPOD_", "SERVE_")
    environment = {name: value for name, value in inherited.items() if not name.startswith(not_inherited)}
    home = Path(inherited.get("HOME", data))
    budget = max(execution_timeout_seconds - WORKER_LIMIT_MARGIN_SECONDS, SHORTEST_BUDGET_SECONDS)
    intake = LocalIntakeSettings.model_construct()  # its defaults alone: what is set is inherited below
    defaults = {
        "MODELS": "auto",  # a worker's own default is to insist on the official ones
        "VIDEO_ALLOW_HTTP": json.dumps(intake.allow_http),
        "VIDEO_ALLOW_PRIVATE_ADDRESSES": json.dumps(intake.allow_private_addresses),
        "VIDEO_ALLOWED_PORTS": json.dumps(intake.allowed_ports),
        "WORKER_SCRATCH": str(data / "scratch"),
        "WORKER_TIME_BUDGET_SECONDS": f"{budget:g}",
        # The home below is not the user's; what lies in the user's caches is still found.
        "XDG_CACHE_HOME": str(home / ".cache"),
        "HF_HOME": str(home / ".cache" / "huggingface"),
        "MODEL_STORE": str(home / ".cache" / "hmr2-phalp"),
    }
    # The SDK appends `&...` to these, so each has a query already; it fills in $ID and $RUNPOD_POD_ID.
    platform = {
        "RUNPOD_WEBHOOK_GET_JOB": f"{base_url}/job-take/$ID?gpu=local",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base_url}/job-done/$RUNPOD_POD_ID/$ID?gpu=local",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{base_url}/job-stream/$RUNPOD_POD_ID/$ID?gpu=local",
        "RUNPOD_WEBHOOK_PING": f"{base_url}/ping/$RUNPOD_POD_ID?gpu=local",
        "RUNPOD_PING_INTERVAL": str(ping_seconds * 1000),
        "RUNPOD_AI_API_KEY": key,
        "RUNPOD_POD_ID": worker_id,
        "RUNPOD_ENDPOINT_ID": endpoint_id,
        "RUNPOD_LOG_LEVEL": "INFO",  # at DEBUG the SDK prints requests, and with them presigned URLs
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
        "HOME": str(data / "home"),  # a key saved there by runpod's own command line would replace ours
    }
    chosen = {"MODELS": models, "CUDA_VISIBLE_DEVICES": gpu}
    return {
        **defaults,
        **environment,
        **(storage or {}),
        **{name: value for name, value in chosen.items() if value is not None},
        **platform,
    }

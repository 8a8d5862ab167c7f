"""Every limit and address of the handler, read from the environment once. Knows nothing of jobs."""

import os
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class IntakeSettings(BaseSettings):
    """What a source video may be and how it may be fetched."""

    model_config = SettingsConfigDict(env_prefix="VIDEO_", frozen=True)
    trusts_urls: ClassVar[bool] = False  # strangers write them

    allow_http: bool = Field(default=False, description="Accept http:// URLs.")
    allow_private_addresses: bool = Field(
        default=False, description="Accept URLs that resolve to private addresses (one machine only)."
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="If set, only these hosts (and their subdomains) are accepted."
    )
    allowed_ports: tuple[int, ...] = Field(default=(443, 80), description="Ports accepted; empty = any.")
    max_bytes: int = Field(default=20 * 1024**3, gt=0, description="Largest video, bytes.")
    max_duration_seconds: float = Field(
        default=6 * 3600, gt=0, description="Longest video part to process, seconds."
    )
    max_frames: int = Field(default=2_000_000, gt=0, description="Most frames to process.")
    max_pixels: int = Field(default=7680 * 4320, gt=0, description="Most pixels in a frame.")
    max_fps: float = Field(default=1000.0, gt=0, description="Highest frame rate.")
    max_streams: int = Field(default=32, gt=0, description="Most streams in a container.")
    connect_seconds: float = Field(default=10.0, gt=0, description="Limit for a connection.")
    read_seconds: float = Field(default=30.0, gt=0, description="Limit for silence while downloading.")
    download_seconds: float = Field(default=3600.0, gt=0, description="Limit for the whole download.")
    min_bytes_per_second: float = Field(
        default=16 * 1024, ge=0, description="Slowest download accepted, over a window of min_rate_seconds."
    )
    min_rate_seconds: float = Field(default=30.0, gt=0, description="Window of the slowest rate.")
    download_attempts: int = Field(
        default=5, ge=1, description="Attempts, resuming where the last one stopped."
    )
    max_redirects: int = Field(default=5, ge=0, description="Redirects followed, each one checked.")
    reserve_disk_bytes: int = Field(default=1024**3, ge=0, description="Disk space left free.")


class BucketSettings(BaseSettings):
    """Where results go; the names that RunPod's own helpers use, and two more."""

    model_config = SettingsConfigDict(
        env_prefix="BUCKET_",
        frozen=True,
        env_ignore_empty=True,  # the Hub's forms set what was left empty to ""
    )

    endpoint_url: str | None = Field(
        default=None,
        description="S3 endpoint; default: what boto3's own settings say (`AWS_ENDPOINT_URL_S3`), AWS.",
    )
    access_key_id: SecretStr | None = Field(default=None, description="Access key.")
    secret_access_key: SecretStr | None = Field(default=None, description="Secret key.")
    name: str | None = Field(default=None, description="Default bucket.")
    region: str | None = Field(default=None, description="Region; `auto` for R2.")
    root_prefix: str = Field(default="", description="Every key lies under this prefix.")
    addressing_style: Literal["auto", "path", "virtual"] | None = Field(
        default=None, description="Default: path with a custom endpoint, auto on AWS."
    )
    part_bytes: int = Field(default=16 * 1024**2, ge=5 * 1024**2, description="Multipart part size, bytes.")
    attempts: int = Field(default=5, ge=1, description="Attempts of each request.")
    connect_seconds: float = Field(default=10.0, gt=0, description="Limit for a connection.")
    read_seconds: float = Field(
        default=30.0, gt=0, description="Limit for silence of the store, each attempt."
    )
    upload_seconds: float = Field(default=1800.0, gt=0, description="Limit for all uploads of a job.")


class WorkerSettings(BaseSettings):
    """How jobs are run."""

    model_config = SettingsConfigDict(env_prefix="WORKER_", frozen=True)

    scratch: Path = Field(default=Path("/tmp/hmr2-jobs"), description="Folder of the jobs' temporary files.")  # noqa: S108 - per-job folders inside are 0700
    batch_frames: int = Field(default=8, ge=1, le=256, description="Frames per perception batch.")
    decode_queue_frames: int = Field(default=16, ge=1, description="Decoded frames that may wait.")
    perceive_ahead_batches: int = Field(
        default=2, ge=1, description="Perceived batches that may wait for tracking."
    )
    time_budget_seconds: float = Field(
        default=6 * 3600 - 60,
        gt=0,
        description="A job ends itself after this; keep it below the endpoint's timeout.",
    )
    stall_seconds: float = Field(default=300.0, gt=0, description="A job without progress for so long fails.")
    progress_interval_seconds: float = Field(default=1.0, gt=0, description="Shortest time between updates.")
    progress_drain_seconds: float = Field(
        default=10.0,
        gt=0,
        description="Longest wait for updates at a job's end; one that takes half of it is given up.",
    )
    recycle_after_jobs: int = Field(
        default=0, ge=0, description="Ask for a new worker after so many jobs; 0 = never."
    )
    recycle_growth_bytes: int = Field(
        default=4 * 1024**3, ge=0, description="Ask for a new worker when memory grew by so much; 0 = never."
    )
    shutdown_seconds: float = Field(
        default=7.0,
        gt=0,
        description="From SIGTERM to the end of a busy worker; its job may finish in three quarters of it.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Log level.")


class ClearCacheSettings(BaseSettings):
    """When unused device memory is given back."""

    model_config = SettingsConfigDict(env_prefix="CLEAR_CACHE_", frozen=True)

    every_frames: int = Field(
        default=1, ge=0, description="Clear the device cache after every so many frames; 0 = never."
    )


class PlatformSettings(BaseSettings):
    """What RunPod itself puts into a worker's environment; the SDK reads the rest."""

    model_config = SettingsConfigDict(env_prefix="RUNPOD_", frozen=True)

    ai_api_key: SecretStr | None = Field(default=None, description="Key of the job queue; only ever hidden.")


class ServeSettings(BaseSettings):
    """The endpoint on one machine (`python -m handler serve`), with RunPod's figures where it gives them."""

    model_config = SettingsConfigDict(env_prefix="SERVE_", frozen=True)

    endpoint_id: str = Field(default="local", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="/v2/{this}/run.")
    api_key: SecretStr | None = Field(
        default=None, description="Bearer key that clients must send; required to listen beyond loopback."
    )
    execution_timeout_seconds: float = Field(
        default=6 * 3600, gt=0, description="Longest run of a job whose policy does not say."
    )
    ttl_seconds: float = Field(
        default=24 * 3600, gt=0, description="Life of an unfinished job whose policy does not say."
    )
    result_seconds: float = Field(default=1800, gt=0, description="How long results of /run are kept.")
    sync_result_seconds: float = Field(default=60, gt=0, description="How long results of /runsync are kept.")
    max_attempts: int = Field(
        default=3, ge=1, description="Workers that may vanish with a job before it fails as WORKER_LOST."
    )
    ping_seconds: int = Field(default=5, ge=1, description="Time between two heartbeats of a worker.")
    lease_seconds: float = Field(
        default=30, gt=0, description="A job whose worker was silent for so long goes back to the queue."
    )
    request_seconds: float = Field(
        default=75, gt=0, description="Time in which a request must arrive, and life of an idle connection."
    )
    hold_seconds: float = Field(
        default=20, gt=0, le=80, description="How long a worker's request for a job is held open."
    )
    stop_seconds: float = Field(
        default=15, gt=0, description="Time a worker has to end after SIGTERM, or after a job was stopped."
    )
    webhook_attempts: int = Field(default=3, ge=1, description="Calls of a webhook until it answers 200.")
    webhook_interval_seconds: float = Field(
        default=10, gt=0, description="Time between two calls of a webhook."
    )
    webhook_timeout_seconds: float = Field(default=10, gt=0, description="Longest wait for its answer.")


class DeploySettings(BaseSettings):
    """How `python -m handler deploy` reaches RunPod's REST API; nothing here concerns a worker."""

    model_config = SettingsConfigDict(env_prefix="RUNPOD_", frozen=True)

    api_key: SecretStr | None = Field(default=None, description="API key; deploy only, never on a worker.")
    deploy_url: str = Field(default="https://api.runpod.io/v2", description="Address of the REST API.")
    deploy_timeout_seconds: float = Field(default=30.0, gt=0, description="Limit for an answer of the API.")
    deploy_attempts: int = Field(
        default=5, ge=1, description="Attempts of a request that the API refused for the moment."
    )
    deploy_wait_seconds: float = Field(
        default=60.0, gt=0, description="Longest wait before another attempt; a longer quota window fails."
    )
    deploy_release_seconds: float = Field(
        default=900.0, ge=0, description="Longest wait until all workers run a new release."
    )
    deploy_poll_seconds: float = Field(default=5.0, gt=0, description="Time between two looks at a release.")

    @field_validator("deploy_url")
    @classmethod
    def _key_travels_encrypted(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
            raise ValueError("must be https (the API key travels with each request)")
        return url.rstrip("/")


def quiet_platform_logs() -> None:
    """Make RunPod's SDK log at INFO unless told otherwise; its own default, DEBUG, prints whole jobs.

    Must run before `import runpod`; child processes inherit it.
    """
    os.environ.setdefault("RUNPOD_LOG_LEVEL", "INFO")  # noqa: TID251 - this file is the place for it


class Settings(BaseModel):
    """All of them. A plain model: variables called BUCKET or WORKER mean nothing here."""

    model_config = ConfigDict(frozen=True)

    intake: IntakeSettings = Field(default_factory=IntakeSettings)
    bucket: BucketSettings = Field(default_factory=BucketSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    clear_cache: ClearCacheSettings = Field(default_factory=ClearCacheSettings)
    platform: PlatformSettings = Field(default_factory=PlatformSettings)

    def secrets(self) -> set[str]:
        """Values that must never be shown."""
        kept = (self.bucket.access_key_id, self.bucket.secret_access_key, self.platform.ai_api_key)
        return {secret.get_secret_value() for secret in kept if secret is not None}


def inherited_environment() -> dict[str, str]:
    """This process's environment, for the worker processes it starts and for values deploy.yaml refers to."""
    return dict(os.environ)  # noqa: TID251 - this file is the place for it

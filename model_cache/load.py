"""Chooses and loads the models of a worker, once, with timings. Knows nothing of jobs."""

import structlog
import torch

from model_cache.errors import WeightsMissing
from model_cache.interfaces import Models
from model_cache.loaded import LoadedModels, Stopwatch, warm_up
from model_cache.settings import ModelSettings, WeightSettings

log = structlog.get_logger(__name__)


def load(settings: ModelSettings, *, warm_up_frames: int = 1) -> Models:
    """The models that the settings ask for, warmed up.

    Args:
        settings: which, from where, on which device.
        warm_up_frames: frames in the batches that jobs will send, so that the first job meets warm networks.

    Raises:
        WeightsMissing: official models are asked for and a file is missing; the message says which.
        WeightsInvalid: a file is not what it should be.
        EngineMissing: ENGINE=upstream, and its packages are not there.
    """
    if settings.model_threads:
        torch.set_num_threads(settings.model_threads)
    device = choose_device(settings.model_device)
    watch = Stopwatch()
    if settings.engine == "upstream":
        from model_cache.upstream.load import load_upstream  # brings its own heavy libraries

        return load_upstream(settings, device, watch)
    models = _load_chosen(settings, device, watch)
    with watch.step("warm_up"):
        warm_up(models, num_frames=warm_up_frames)
    return models


def choose_device(wanted: str) -> torch.device:
    """`auto` is the first GPU, or the CPU where there is none.

    Raises:
        WeightsMissing: a GPU is asked for that is not there.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise WeightsMissing(f"MODEL_DEVICE={wanted}, but this machine has {torch.cuda.device_count()} GPUs")
    return device


def choose_precision(settings: ModelSettings, device: torch.device) -> torch.dtype:
    """`auto` is bf16 on a GPU that computes in it, else fp32."""
    if settings.model_precision == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if settings.model_precision == "bf16" else torch.float32


def _load_chosen(settings: ModelSettings, device: torch.device, watch: Stopwatch) -> LoadedModels:
    # Imported here: each brings its own heavy libraries.
    from model_cache.lite.load import load_lite
    from model_cache.official import load_official

    if settings.models == "lite":
        return load_lite(settings, watch)
    try:
        return load_official(settings, device, choose_precision(settings, device), watch)
    except WeightsMissing as error:
        if settings.models == "official":
            raise WeightsMissing(all_that_is_missing(settings, error)) from error
        log.warning("using the bundled lite models", reason=str(error))
        return load_lite(settings, watch)


def all_that_is_missing(settings: ModelSettings, first: WeightsMissing) -> str:
    """Every missing file at once, and the command to run, instead of one file per start.

    Args:
        settings: which store and detector.
        first: what loading stumbled over.
    """
    from model_cache.store.lock import LOCK_FILE, read_lock
    from ops.weights.verify import official_verdict

    weights = WeightSettings()
    lock = read_lock(weights.lock or settings.model_store / LOCK_FILE)
    verdict = official_verdict(settings, weights, lock, hashes=False)
    head = "the official weights are not complete: run `python -m model_cache fetch`"
    return "\n- ".join([head, *(verdict.problems or [str(first)]), *verdict.remedies[1:]])

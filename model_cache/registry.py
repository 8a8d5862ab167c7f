"""The models that settings can name, and how a name becomes what loads it. Imports no network."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from model_cache.errors import UnknownModel

MOVENET = "movenet-multipose"  # the detector that comes with the package
HMR2 = "hmr2"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What a named model's loader is called with.

    Attributes:
        name: as the setting names it.
        store: folder of the weights store.
        device: `cpu`, or the GPU as torch names it.
        precision: what the worker's large networks run in.
        num_threads: CPU threads of a network; 0 for the library's default.
        score_floor: for detectors: people below this score need not be returned.
    """

    name: str
    store: Path
    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    num_threads: int = 0
    score_floor: float = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A model that can be named.

    Attributes:
        loader: `module:attribute`, a class or function that takes `LoadOptions`.
        files: what it needs in the store, in the folder of its name.
    """

    loader: str
    files: tuple[str, ...] = ()


_RF_DETR = Entry(
    loader="model_cache.networks.rf_detr:load_rf_detr", files=("config.json", "model.safetensors")
)
DETECTORS: Mapping[str, Entry] = {
    MOVENET: Entry(loader="model_cache.lite.detector:load_lite_detector"),
    **{f"rf-detr-seg-{size}": _RF_DETR for size in ("nano", "small", "medium", "large", "xlarge", "xxlarge")},
}


def detector_entry(name: str) -> Entry:
    """The detector of this name: a registered one, `module:attribute`, or a folder with RF-DETR-Seg."""
    if name in DETECTORS:
        return DETECTORS[name]
    return Entry(loader=name) if _is_import(name) else _RF_DETR


def check_detector(name: str, store: Path) -> None:
    """Raises `UnknownModel` for a name that is neither registered, nor `module:attribute`, nor a folder."""
    if name not in DETECTORS and not _is_import(name) and not (store / name).is_dir():
        raise UnknownModel(
            f"DETECTOR={name}: there is no such detector. Use one of {', '.join(DETECTORS)}; a folder of the "
            f"weights store with an RF-DETR-Seg checkpoint; or your own as package.module:Name"
        )


def check_regressor(name: str) -> None:
    """Raises `UnknownModel` for a name that is neither `hmr2` nor `module:attribute`."""
    if name != HMR2 and not _is_import(name):
        raise UnknownModel(
            f"BODY_REGRESSOR={name}: there is no such body regressor. Use {HMR2}, or your own as "
            "package.module:Name"
        )


def load_named(setting: str, loader: str, options: LoadOptions) -> Any:
    """Import `module:attribute` and call it with the options; messages name `setting`.

    Raises:
        UnknownModel: it cannot be imported.
    """
    module, _, attribute = loader.partition(":")
    try:
        load = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownModel(
            f"{setting}={options.name}: cannot be imported ({error}). Install its package, or name "
            "its folder in PYTHONPATH"
        ) from error
    return load(options)


def _is_import(name: str) -> bool:
    module, colon, attribute = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), attribute))

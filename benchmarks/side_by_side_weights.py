"""The weights that both engines run with: official, or made by rule."""

from dataclasses import dataclass
from pathlib import Path

from model_cache.errors import WeightsMissing
from model_cache.store.load import read_config
from model_cache.store.manifest import MODEL_SOURCES, OFFICIAL_FILES, package_caches
from model_cache.upstream.networks import find_official
from ops.weights.convert import convert
from ops.weights.inventory import model_problem
from tests.weight_rule import write_official_files


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The same weights for both engines.

    Attributes:
        cache: laid out as the official packages keep their files.
        store: may have official files too, which then come first.
        converted: all of them, as our engine reads them.
        kind: a few words for the table.
    """

    cache: Path
    store: Path
    converted: Path
    kind: str


def find_weights(size: str, folder: Path, store: Path) -> Weights:
    """The official files where they are; else files by the tests' rule, of the official sizes or tiny.

    Args:
        size: `official`, `full` or `tiny`.
        folder: for what has to be written.
        store: the weights store.
    """
    if size == "official":
        cache = package_caches()[0]
        try:
            files = find_official(store, [cache])
        except WeightsMissing:
            print(
                "The official weights are not here: weights by the tests' rule, full size, take their place."
            )
            size = "full"
        else:
            ready = store if _holds_float32(store) else folder / "converted"
            if ready != store:
                convert(list(files.values()), ready)
            return Weights(cache=cache, store=store, converted=ready, kind="official weights")
    predictor = "lart256" if size == "full" else "tiny"
    made = write_official_files(folder / "files", hmr2=size, predictor=predictor)
    convert([made], folder / "converted")
    return Weights(
        cache=arrange(made, folder / "cache"),
        store=folder / "converted",
        converted=folder / "converted",
        kind=f"{size} weights made by rule",
    )


def _holds_float32(store: Path) -> bool:
    """Whether everything is converted, and nothing of it rounded."""
    if any(model_problem(store, model, hashes=False) for model in MODEL_SOURCES):
        return False
    return bool(read_config(store, "hmr2")["precision"] == "fp32")


def arrange(files: Path, cache: Path) -> Path:
    """Official files laid out as the official packages keep them."""
    found = {path.name: path for path in files.rglob("*") if path.is_file()}
    for file in OFFICIAL_FILES:
        (cache / file.path).parent.mkdir(parents=True, exist_ok=True)
        (cache / file.path).symlink_to(found[file.name])
    return cache

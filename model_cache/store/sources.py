"""Which official file is which, by its name. Knows nothing of what is inside.

The names are those of the 4D-Humans and PHALP downloads, and the usual ones for SMPL.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from model_cache.errors import WeightsInvalid, WeightsMissing
from model_cache.store.body_files import SMPL_ADDRESS
from model_cache.store.layout import sha256_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """An official file: the names it goes by (in lower case) and where it comes from."""

    role: str
    patterns: tuple[str, ...]
    origin: str


_HMR2 = "4D-Humans' hmr2_data.tar.gz"
_PHALP = "PHALP's download folder"
SOURCE_FILES = (
    SourceFile(role="hmr2_checkpoint", patterns=("epoch=*.ckpt", "hmr2*.ckpt"), origin=_HMR2),
    SourceFile(role="hmr2_config", patterns=("model_config.yaml",), origin=_HMR2),
    SourceFile(role="joint_regressor", patterns=("smpl_to_j19.pkl",), origin=_HMR2),
    SourceFile(
        role="smpl",
        patterns=(
            *("smpl_neutral.pkl", "smpl_neutral.npz"),
            *("basicmodel_neutral_lbs_10_207_0_v1*.pkl", "basicmodel_neutral_lbs_10_207_0_v1*.npz"),
        ),
        origin=f"{SMPL_ADDRESS} (register and accept its licence)",
    ),
    SourceFile(role="appearance_checkpoint", patterns=("hmar_v2_weights.pth",), origin=_PHALP),
    SourceFile(
        role="predictor_checkpoint",
        patterns=("pose_predictor.pth", "pose_predictor.ckpt", "pose_predictor_*.ckpt"),
        origin=_PHALP,
    ),
    SourceFile(role="predictor_config", patterns=("pose_predictor.yaml", "config_40006.yaml"), origin=_PHALP),
    SourceFile(role="pose_mean_std", patterns=("mean_std.npy",), origin=_PHALP),
    SourceFile(role="uv_barycentric", patterns=("bmap_256.npy",), origin=_PHALP),
    SourceFile(role="uv_faces", patterns=("fmap_256.npy",), origin=_PHALP),
)
MODEL_SOURCES: Mapping[str, tuple[str, ...]] = {
    "hmr2": ("hmr2_checkpoint", "hmr2_config"),
    "smpl": ("smpl", "joint_regressor"),
    "appearance": ("appearance_checkpoint",),
    "pose_predictor": ("predictor_checkpoint", "predictor_config", "pose_mean_std"),
    "uv_map": ("uv_barycentric", "uv_faces"),
}


def find_sources(paths: Sequence[Path], models: Iterable[str]) -> dict[str, Path]:
    """The official file of each role that `models` need, and the optional ones that are there.

    Args:
        paths: folders, searched with their subfolders, and files. A file given by itself comes before
            one found in a folder.
        models: names of `MODEL_SOURCES`.

    Raises:
        WeightsMissing: a path does not exist, or needed files were not found (all of them are named).
        WeightsInvalid: two different files claim the same role.
    """
    absent = [path.name for path in paths if not path.exists()]
    if absent:
        raise WeightsMissing(f"no such file or folder: {', '.join(absent)}")
    given = [path for path in paths if path.is_file()]
    listed = [file for path in paths if path.is_dir() for file in sorted(path.rglob("*")) if file.is_file()]
    found = {}
    for source in SOURCE_FILES:
        candidates = _matching(given, source) or _matching(listed, source)
        if candidates:
            found[source.role] = _single(candidates, source.role)
    needed = {role for model in models for role in MODEL_SOURCES[model]}
    missing = [source for source in SOURCE_FILES if source.role in needed - found.keys()]
    if missing:
        lines = [f"{source.patterns[0]} (from {source.origin})" for source in missing]
        raise WeightsMissing("official files not found: " + "; ".join(lines))
    return found


def _matching(files: Sequence[Path], source: SourceFile) -> list[Path]:
    """Files under one of the source's names; an earlier name is preferred to a later one."""
    for pattern in source.patterns:
        matches = [file for file in files if fnmatch(file.name.lower(), pattern)]
        if matches:
            return matches
    return []


def _single(candidates: Sequence[Path], role: str) -> Path:
    """One file, when several are copies of each other (PHALP and HMR2 both ship some)."""
    if len(candidates) > 1 and len({sha256_of(path) for path in candidates}) > 1:
        names = ", ".join(str(path) for path in candidates)
        raise WeightsInvalid(f"several different files for `{role}`: {names}. Name the right one by itself")
    return candidates[0]

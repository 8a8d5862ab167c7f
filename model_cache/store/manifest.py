"""Every official file: what it is for, its names, where it is published and kept, under which licence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Literal

SMPL_ADDRESS = "https://smpl.is.tue.mpg.de"  # where the operator registers, accepts the licence, downloads
FETCH = "python -m handler weights fetch"  # how messages name the command
OFFICIAL_FOLDER = "official"  # below the store, laid out as the official packages' ~/.cache

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialFile:
    """One file of the official downloads.

    Attributes:
        role: our name for it, and that of the setting that replaces its source.
        purpose: what it is for, a few words.
        path: where the official packages keep it below their cache (`~/.cache`), and we below `official/`.
        patterns: file names that it goes by, in lower case, the preferred one first.
        addresses: where it, or an archive with it, is published; in order. Empty: the operator alone has it.
        licence: its terms, a few words.
        origin: where a person gets it.
        approximate_bytes: its size as far as known.
        archive: name of the archive that it is published in.
        aliases: other usual names, spelt as they are asked for on a mirror that cannot be listed.
    """

    role: str
    purpose: str
    path: str
    patterns: tuple[str, ...]
    addresses: tuple[str, ...]
    licence: str
    origin: str
    approximate_bytes: int | None = None
    archive: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its usual file name."""
        return Path(self.path).name

    @property
    def key(self) -> str:
        """Its name in the lock file: stores may hold several detectors, but one of each other file."""
        return self.path if self.of_detector else self.role

    @property
    def of_detector(self) -> bool:
        """Whether it lies in the detector's own folder of the store."""
        return self.role.startswith("detector_")

    @property
    def operator_only(self) -> bool:
        """Whether only the operator may supply it (its licence forbids passing it on)."""
        return not self.addresses

    def rank(self, file_name: str) -> int | None:
        """How well a file name fits, 0 is best; None if it is another file."""
        fits = (i for i, pattern in enumerate(self.patterns) if fnmatch(file_name.lower(), pattern))
        return next(fits, None)


# The authors moved from one host to the other: PHALP's links did in February 2026, 4D-Humans' code still
# names the old one, which refuses many requests.
_TEXAS = "https://www.cs.utexas.edu/~pavlakos"
_BERKELEY = "https://people.eecs.berkeley.edu/~jathushan/projects"
_HMR2_ADDRESSES = (f"{_TEXAS}/4dhumans/hmr2_data.tar.gz", f"{_BERKELEY}/4dhumans/hmr2_data.tar.gz")
_RUN = "4DHumans/logs/train/multiruns/hmr2/0"
_hmr2 = partial(
    OfficialFile,
    addresses=_HMR2_ADDRESSES,
    licence="no terms of its own seen; code MIT; output is SMPL's",
    origin="4D-Humans' hmr2_data.tar.gz",
    archive="hmr2_data.tar.gz",
)


def _phalp(role: str, purpose: str, path: str, remote: str, *names: str) -> OfficialFile:
    """A file of PHALP's download folder."""
    return OfficialFile(
        role=role,
        purpose=purpose,
        path=f"phalp/{path}",
        patterns=names or (Path(path).name.lower(),),
        addresses=(f"{_TEXAS}/phalp/{remote}", f"{_BERKELEY}/phalp/{remote}"),
        licence="no terms of its own seen; code MIT; follows SMPL's",
        origin="PHALP's download folder",
        aliases=(Path(remote).name,),
    )


OFFICIAL_FILES = (
    _hmr2(
        role="hmr2_checkpoint",
        purpose="HMR2: ViT-H backbone and SMPL head",
        path=f"{_RUN}/checkpoints/epoch=35-step=1000000.ckpt",
        patterns=("epoch=*.ckpt", "hmr2*.ckpt"),
        approximate_bytes=2_700_000_000,
    ),
    _hmr2(
        role="hmr2_config",
        purpose="HMR2: its settings",
        path=f"{_RUN}/model_config.yaml",
        patterns=("model_config.yaml",),
    ),
    _hmr2(
        role="joint_regressor",
        purpose="the 19 extra joints of HMR2's 44",
        path="4DHumans/data/SMPL_to_J19.pkl",
        patterns=("smpl_to_j19.pkl",),
        # PHALP publishes it loose too: where the archive is not needed, a few MB instead of all of it.
        addresses=(f"{_TEXAS}/phalp/3D/SMPL_to_J19.pkl", *_HMR2_ADDRESSES),
    ),
    OfficialFile(
        role="smpl",
        purpose="the SMPL body, neutral",
        path="4DHumans/data/smpl/SMPL_NEUTRAL.pkl",
        patterns=(
            *("smpl_neutral.pkl", "smpl_neutral.npz"),
            *("basicmodel_neutral_lbs_10_207_0_v1*.pkl", "basicmodel_neutral_lbs_10_207_0_v1*.npz"),
        ),
        addresses=(),
        licence=f"SMPL, non-commercial: {SMPL_ADDRESS}/modellicense.html",
        origin=f"{SMPL_ADDRESS} (register and accept its licence)",
        aliases=(
            "SMPL_NEUTRAL.npz",
            "basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl",
            "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl",
        ),
    ),
    _phalp(
        "appearance_checkpoint",
        "PHALP: texture encoder",
        "weights/hmar_v2_weights.pth",
        "weights/hmar_v2_weights.pth",
    ),
    _phalp(
        "predictor_checkpoint",
        "PHALP: pose predictor",
        "weights/pose_predictor.pth",
        "weights/pose_predictor_40006.ckpt",
        *("pose_predictor.pth", "pose_predictor.ckpt", "pose_predictor_*.ckpt"),
    ),
    _phalp(
        "predictor_config",
        "PHALP: the predictor's settings",
        "weights/pose_predictor.yaml",
        "weights/config_40006.yaml",
        *("pose_predictor.yaml", "config_40006.yaml"),
    ),
    _phalp("pose_mean_std", "PHALP: mean and deviation of poses", "3D/mean_std.npy", "3D/mean_std.npy"),
    _phalp("uv_barycentric", "PHALP: UV map, barycentric", "3D/bmap_256.npy", "bmap_256.npy"),
    _phalp("uv_faces", "PHALP: UV map, faces", "3D/fmap_256.npy", "fmap_256.npy"),
)
_VITDET = "ViTDet/COCO/cascade_mask_rcnn_vitdet_h/f328730692/model_final_f05665.pkl"
_MASK_RCNN = "new_baselines/mask_rcnn_regnety_4gf_dds_FPN_400ep_LSJ/42045954/model_final_ef3a80.pkl"
# PHALP's own detectors, for ENGINE=upstream alone; by the value of UPSTREAM_DETECTOR.
UPSTREAM_DETECTORS: Mapping[str, OfficialFile] = {
    name: OfficialFile(
        role=f"upstream_{name}",
        purpose=f"PHALP's detector {name}",
        path=f"detectron2/{below}",
        patterns=(Path(below).name,),
        addresses=(f"https://dl.fbaipublicfiles.com/detectron2/{below}",),
        licence="detectron2's model zoo, Apache-2.0",
        origin="detectron2's model zoo",
        approximate_bytes=size,
    )
    for name, below, size in (("vitdet", _VITDET, 2_770_000_000), ("maskrcnn", _MASK_RCNN, None))
}
ALL_FILES = (*OFFICIAL_FILES, *UPSTREAM_DETECTORS.values())
FILES_BY_ROLE: Mapping[str, OfficialFile] = {file.role: file for file in ALL_FILES}
MODEL_SOURCES: Mapping[str, tuple[str, ...]] = {
    "hmr2": ("hmr2_checkpoint", "hmr2_config"),
    "smpl": ("smpl", "joint_regressor"),
    "appearance": ("appearance_checkpoint",),
    "pose_predictor": ("predictor_checkpoint", "predictor_config", "pose_mean_std"),
    "uv_map": ("uv_barycentric", "uv_faces"),
}


def package_caches() -> tuple[Path, ...]:
    """Where 4D-Humans and PHALP, and detectron2 for them, keep their downloads."""
    return (Path.home() / ".cache", Path.home() / ".torch" / "iopath_cache")


def official_file(store: Path, file: OfficialFile, caches: Sequence[Path] = ()) -> Path | None:
    """An official file in the store (SMPL as .pkl or .npz), else in a cache."""
    path = store / OFFICIAL_FOLDER / file.path
    others = [path.with_suffix(suffix) for suffix in (".npz", ".pkl") if file.operator_only]
    places = [path, *others, *(cache / file.path for cache in caches)]
    return next((place for place in places if place.is_file()), None)

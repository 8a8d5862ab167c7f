"""The official files, read for the official networks: every needed key accounted for, no pickle executed.

They are taken from the store (`official/`, where `weights fetch` puts them) or from the official packages'
caches (`~/.cache/4DHumans`, `~/.cache/phalp`), so one download serves both engines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from model_cache.errors import WeightsMissing
from model_cache.interfaces import ModelFile
from model_cache.networks.decoder import HeadConfig
from model_cache.networks.smpl import BodyData
from model_cache.networks.vit import VitConfig
from model_cache.store.body_files import read_body, read_joint_regressor
from model_cache.store.files import sha256_of
from model_cache.store.hmr2_weights import HMR2_IGNORED, hmr2_configs, hmr2_shapes
from model_cache.store.keys import account, read_yaml
from model_cache.store.manifest import FETCH, OFFICIAL_FILES, official_file, package_caches
from model_cache.store.phalp_weights import (
    appearance_tensors,
    pose_statistics,
    predictor_tensors,
    uv_map_tensors,
)
from model_cache.store.pickles import checkpoint_tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialWeights:
    """What the official networks are filled with; tensors may still lie in their files.

    Attributes:
        hmr2: under the checkpoint's keys.
        vit: sizes of HMR2's backbone.
        head: sizes of HMR2's head.
        encoder: the appearance encoder, keys without wrappers.
        predictor: the pose predictor, keys without the leading `encoder.`.
        predictor_config: the node `configs` of pose_predictor.yaml.
        pose_statistics: `pose_mean` and `pose_std`, (229,) each.
        uv_map: `bmap` and `fmap`.
        body: SMPL.
        files: what was read.
    """

    hmr2: Mapping[str, Tensor]
    vit: VitConfig
    head: HeadConfig
    encoder: Mapping[str, Tensor]
    predictor: Mapping[str, Tensor]
    predictor_config: Mapping[str, Any]
    pose_statistics: Mapping[str, Tensor]
    uv_map: Mapping[str, Tensor]
    body: BodyData
    files: tuple[ModelFile, ...]


def read_official(store: Path, caches: Sequence[Path] | None = None) -> OfficialWeights:
    """Reads the official files.

    Args:
        store: the weights store; its files come before those of the caches.
        caches: folders that hold `4DHumans/` and `phalp/`; by default the official packages' own.

    Raises:
        WeightsMissing: files are in none of these places; all of them are named.
        WeightsInvalid: a file is not what it should be.
    """
    paths = find_official(store, package_caches() if caches is None else caches)
    hmr2_path = paths["hmr2_checkpoint"]
    state = checkpoint_tensors(hmr2_path, "state_dict")
    vit, head = hmr2_configs(state, read_yaml(paths["hmr2_config"]), hmr2_path.name)
    encoder_path, predictor_path = paths["appearance_checkpoint"], paths["predictor_checkpoint"]
    encoder = checkpoint_tensors(encoder_path, "model")
    predictor = checkpoint_tensors(predictor_path, "state_dict")
    config = read_yaml(paths["predictor_config"])
    return OfficialWeights(
        hmr2=account(state, hmr2_shapes(vit, head), HMR2_IGNORED, hmr2_path.name).used,
        vit=vit,
        head=head,
        encoder=appearance_tensors(encoder, encoder_path.name).used,
        predictor=predictor_tensors(predictor, predictor_path.name).used,
        predictor_config=config.get("configs", config),
        pose_statistics=pose_statistics(paths["pose_mean_std"]),
        uv_map=uv_map_tensors(paths["uv_barycentric"], paths["uv_faces"]),
        body=read_body(paths["smpl"], read_joint_regressor(paths["joint_regressor"])),
        files=tuple(
            ModelFile(role=role, name=path.name, sha256=sha256_of(path)) for role, path in paths.items()
        ),
    )


def find_official(store: Path, caches: Sequence[Path]) -> dict[str, Path]:
    """The official file of each role.

    Raises:
        WeightsMissing: files are in none of these places; all of them are named.
    """
    paths = {file.role: official_file(store, file, caches) for file in OFFICIAL_FILES}
    found = {role: path for role, path in paths.items() if path}
    missing = [f"{file.path} (from {file.origin})" for file in OFFICIAL_FILES if file.role not in found]
    if missing:
        raise WeightsMissing(
            "ENGINE=upstream needs the official files, in the store or in ~/.cache; run "
            f"`{FETCH}`. Missing: {'; '.join(missing)}"
        )
    return found

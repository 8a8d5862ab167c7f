"""SMPL bodies from the files they come in: `.pkl` of Python 2, `.npz`, and this store's safetensors."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor

from model_cache.errors import WeightsInvalid, WeightsMissing
from model_cache.networks.smpl import (
    EXTRA_JOINT_VERTEX_IDS,
    NUM_BETAS,
    NUM_JOINTS,
    NUM_POSE_FEATURES,
    BodyData,
)
from model_cache.store.manifest import SMPL_ADDRESS
from model_cache.store.pickles import Inert, read_guarded, read_pickle

NUM_EXTRA_REGRESSED_JOINTS = 19
_SAME_BODY = 1e-5  # metres or weights; float32 copies of one file differ by less
# Our name: the names that files have it under.
_NAMES = {
    "v_template": ("v_template",),
    "faces": ("f", "faces"),
    "shapedirs": ("shapedirs",),
    "joint_regressor": ("J_regressor", "joint_regressor"),
    "joint_regressor_extra": ("joint_regressor_extra",),
    "lbs_weights": ("weights", "lbs_weights"),
}
_INDICES = frozenset({"faces", "parents", "extra_joint_vertex_ids"})


def read_body(path: Path, joint_regressor_extra: np.ndarray | None = None) -> BodyData:
    """The body in a `.pkl`, `.npz` or `.safetensors` file.

    Args:
        path: the file.
        joint_regressor_extra: HMR2's 19 extra joints (SMPL_to_J19.pkl), which SMPL's own files lack.

    Raises:
        WeightsMissing: no such file.
        WeightsInvalid: broken, or not a body of SMPL's structure.
    """
    if not path.is_file():
        raise WeightsMissing(f"{path.name}: there is no such body model file. SMPL is at {SMPL_ADDRESS}")
    extra = {} if joint_regressor_extra is None else {"joint_regressor_extra": joint_regressor_extra}
    body: BodyData = read_guarded(path, lambda: _body({**_read_fields(path), **extra}))
    return body


def read_joint_regressor(path: Path) -> np.ndarray:
    """The 19 extra joints as weights over the vertices, (19, v) float32, of SMPL_to_J19.pkl.

    Raises:
        WeightsInvalid: broken or of another shape.
    """
    regressor: np.ndarray = read_guarded(path, lambda: plain_array(read_pickle(path)))
    if regressor.ndim != 2 or len(regressor) != NUM_EXTRA_REGRESSED_JOINTS:
        raise WeightsInvalid(f"{path.name}: a (19, vertices) array is needed, this is {regressor.shape}")
    return regressor.astype(np.float32)


def body_tensors(body: BodyData) -> dict[str, Tensor]:
    """The body as the tensors of `smpl.safetensors`, named as `BodyData`'s fields."""
    arrays = {name: getattr(body, name) for name in BodyData.__dataclass_fields__}
    return {name: torch.from_numpy(array) for name, array in arrays.items() if array is not None}


def body_differences(body: BodyData, state: Mapping[str, Tensor]) -> list[str]:
    """Sentences on where HMR2's checkpoint, which carries body tensors too, has another body than `body`."""
    ours = {
        "smpl.v_template": body.v_template,
        "smpl.shapedirs": body.shapedirs,
        "smpl.J_regressor": body.joint_regressor,
        "smpl.lbs_weights": body.lbs_weights,
        "smpl.joint_regressor_extra": body.joint_regressor_extra,
    }

    def same(theirs: Tensor, array: np.ndarray) -> bool:
        return theirs.shape == array.shape and np.allclose(theirs.float().numpy(), array, atol=_SAME_BODY)

    return [
        f"HMR2's checkpoint has another `{key}` than the SMPL file; the SMPL file is used"
        for key, array in ours.items()
        if key in state and not same(state[key], array)
    ]


def plain_array(value: object) -> np.ndarray:
    """A numpy array out of an array, or out of a chumpy or scipy object by its fields.

    Raises:
        WeightsInvalid: something else.
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, Inert) and isinstance(value.state, Mapping):
        kind, state = type(value).class_name, value.state
        if kind.startswith("chumpy.") and "x" in state:  # chumpy.ch.Ch: an array and its derivatives
            return plain_array(state["x"])
        if kind.startswith("chumpy.") and {"a", "idxs"} <= state.keys():  # chumpy.reordering.Select
            picked = np.take(plain_array(state["a"]), plain_array(state["idxs"]))
            return picked.reshape(state.get("preferred_shape", picked.shape))
        if kind.startswith("scipy.sparse") and kind.endswith(("csc_matrix", "csr_matrix")):
            return _dense(state, by_column=kind.endswith("csc_matrix"))
    name = type(value).class_name if isinstance(value, Inert) else type(value).__name__
    raise WeightsInvalid(f"an array is needed where the file has a {name}")


def _dense(state: Mapping[str, Any], *, by_column: bool) -> np.ndarray:
    """A compressed sparse matrix written out."""
    shape = state.get("_shape", state.get("shape"))
    if shape is None or not {"data", "indices", "indptr"} <= state.keys():
        raise WeightsInvalid("a sparse matrix without its parts")
    major = np.repeat(np.arange(len(state["indptr"]) - 1), np.diff(state["indptr"]))
    row, column = (state["indices"], major) if by_column else (major, state["indices"])
    dense = np.zeros(shape)
    np.add.at(dense, (row, column), state["data"])  # repeated entries add up, as scipy has it
    return dense


def _read_fields(path: Path) -> dict[str, Any]:
    if path.suffix == ".pkl":
        content = read_pickle(path)
        if not isinstance(content, Mapping):
            raise WeightsInvalid(f"a body model is a dictionary, not a {type(content).__name__}")
        return {str(key): value for key, value in content.items()}
    if path.suffix == ".safetensors":
        return dict(load_file(path))
    arrays = {}
    with np.load(path, allow_pickle=False) as data:
        for name in data.files:
            with suppress(ValueError):  # numpy's refusal to unpickle: SMPL's notes, which are of no use
                arrays[name] = data[name]
    return arrays


def _body(fields: Mapping[str, Any]) -> BodyData:
    """`fields` under SMPL's names or ours, checked for shape, range and finiteness."""
    arrays = {name: _field(fields, names) for name, names in _NAMES.items()}
    arrays["shapedirs"] = arrays["shapedirs"][..., :NUM_BETAS]  # SMPL 1.1 has 300
    arrays["parents"] = _parents(fields)
    arrays["extra_joint_vertex_ids"] = np.asarray(
        fields.get("extra_joint_vertex_ids", EXTRA_JOINT_VERTEX_IDS)
    )
    if "posedirs" in fields:
        arrays["posedirs"] = plain_array(fields["posedirs"])
    vertices, faces = arrays["v_template"].shape[:1], arrays["faces"].shape[:1]
    shapes = {
        "parents": (NUM_JOINTS,),
        "v_template": (*vertices, 3),
        "faces": (*faces, 3),
        "shapedirs": (*vertices, 3, NUM_BETAS),
        "posedirs": (*vertices, 3, NUM_POSE_FEATURES),
        "joint_regressor": (NUM_JOINTS, *vertices),
        "joint_regressor_extra": (NUM_EXTRA_REGRESSED_JOINTS, *vertices),
        "lbs_weights": (*vertices, NUM_JOINTS),
        "extra_joint_vertex_ids": (len(EXTRA_JOINT_VERTEX_IDS),),
    }
    for name, array in arrays.items():
        if array.shape != shapes[name]:
            raise WeightsInvalid(
                f"`{name}` is {array.shape}, {shapes[name]} is needed (is this SMPL-H or SMPL-X?)"
            )
    if arrays["lbs_weights"].dtype == np.float16:
        weights = arrays["lbs_weights"].astype(np.float32)
        # Rounded weights would scale the body by up to 5e-4.
        arrays["lbs_weights"] = weights / weights.sum(axis=1, keepdims=True)
    typed = {
        name: np.ascontiguousarray(array, dtype=np.int64 if name in _INDICES else np.float32)
        for name, array in arrays.items()
    }
    _check(typed)
    return BodyData(posedirs=typed.pop("posedirs", None), **typed)


def _field(fields: Mapping[str, Any], names: tuple[str, ...]) -> np.ndarray:
    for name in names:
        if name in fields:
            return plain_array(fields[name])
    if names == ("joint_regressor_extra",):
        raise WeightsMissing("a body needs HMR2's extra joints too: give SMPL_to_J19.pkl with it")
    raise WeightsInvalid(f"`{names[0]}` is missing, so this is not an SMPL body model")


def _parents(fields: Mapping[str, Any]) -> np.ndarray:
    """Parents of the joints, -1 for the root (in the official files 2^32 - 1, an overflow)."""
    parents = np.atleast_2d(_field(fields, ("kintree_table", "parents")))[0]
    return np.concatenate(([-1], parents[1:])).astype(np.int64)


def _check(arrays: Mapping[str, np.ndarray]) -> None:
    """Refuses numbers that arrays of the right shapes may still have wrong."""
    if not all(0 <= parent < joint for joint, parent in enumerate(arrays["parents"][1:], start=1)):
        raise WeightsInvalid("the joints are not in an order from the root outwards")
    num = len(arrays["v_template"])
    indices = np.concatenate((arrays["faces"].ravel(), arrays["extra_joint_vertex_ids"]))
    if indices.min() < 0 or indices.max() >= num:
        raise WeightsInvalid(f"vertex indices outside of the {num} vertices")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise WeightsInvalid(f"`{name}` holds numbers that are not finite")

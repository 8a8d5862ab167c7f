"""Official files to the store: safetensors and small JSON files, every key accounted for.

Memory stays at about one tensor beyond what the operating system maps of the sources.
"""

import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model_cache.errors import StoreUnavailable, WeightsInvalid
from model_cache.networks.hmr2 import FOCAL_LENGTH
from model_cache.store.body_files import body_differences, body_tensors, read_body, read_joint_regressor
from model_cache.store.files import FORMAT, STORE_FILE, read_store, sha256_of
from model_cache.store.hmr2_weights import (
    HMR2_IGNORED,
    hmr2_configs,
    hmr2_shapes,
    hmr2_tensors,
    stored_dtype,
)
from model_cache.store.keys import account, read_yaml
from model_cache.store.manifest import MODEL_SOURCES, Precision
from model_cache.store.phalp_weights import (
    appearance_tensors,
    pose_statistics,
    predictor_config,
    predictor_tensors,
    uv_map_tensors,
)
from model_cache.store.pickles import checkpoint_tensors
from ops.files import write_json, written_whole
from ops.weights.inventory import find_sources

_DTYPE_NAMES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """One model, read from its official files and named as our networks name it.

    Attributes:
        tensors: by our name; may still lie in the source file.
        config: sizes and settings, or None where there are none.
        ignored: reason by official key.
        notes: sentences that the operator should read.
    """

    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] | None = None
    ignored: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def convert(
    paths: Sequence[Path],
    out: Path,
    *,
    precision: Precision = "fp32",
    only: Collection[str] = tuple(MODEL_SOURCES),
) -> dict[str, Any]:
    """Converts official files and returns what `store.json` now says of the converted models.

    Args:
        paths: official files and folders that hold them.
        out: the store; models converted earlier stay in it.
        precision: of HMR2's backbone in the store. fp32 can be loaded as either.
        only: models to convert, names of `MODEL_SOURCES`.

    Raises:
        WeightsMissing: official files were not found.
        WeightsInvalid: a file is not what it should be. The store is left as it was for that model.
    """
    sources = find_sources(paths, only)
    report = read_store(out)
    for model in MODEL_SOURCES:
        if model not in only:
            continue
        conversion = _READERS[model](sources)
        used = {role: sources[role] for role in MODEL_SOURCES[model]}
        report["models"][model] = {
            "sources": {role: _file_facts(path) for role, path in used.items()},
            "files": _write(out, model, conversion, precision),
            "ignored_keys": dict(conversion.ignored),
            "notes": list(conversion.notes),
        }
        write_json(out / STORE_FILE, report)
    return {model: report["models"][model] for model in MODEL_SOURCES if model in only}


def _write(out: Path, model: str, conversion: Conversion, precision: Precision) -> dict[str, Any]:
    """Writes one model's files; returns name -> size and hash."""
    dtypes = {name: _dtype(model, name, tensor, precision) for name, tensor in conversion.tensors.items()}
    size = sum(tensor.numel() * dtypes[name].itemsize for name, tensor in conversion.tensors.items())
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    if free < size + 2**20:
        raise StoreUnavailable(f"the disk of the store has {free >> 20} MiB free, {model} needs {size >> 20}")
    paths = [out / f"{model}.safetensors"]
    try:
        write_tensors(paths[0], conversion.tensors, dtypes)
    except WeightsInvalid as error:
        raise WeightsInvalid(f"{model}: {error}") from error
    if conversion.config is not None:
        config = {"format": FORMAT, **conversion.config}
        if model == "hmr2":
            config["precision"] = precision
        paths.append(out / f"{model}.json")
        write_json(paths[1], config)
    return {path.name: _file_facts(path) for path in paths}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], dtypes: Mapping[str, torch.dtype]) -> None:
    """A safetensors file, written tensor by tensor: memory holds one of them beyond the sources.

    (`safetensors.torch.save_file` builds the whole file in memory first.)

    Args:
        path: the file.
        tensors: by name; may be mapped from a checkpoint.
        dtypes: what each is stored as.

    Raises:
        WeightsInvalid: a tensor holds NaN or infinity.
    """
    # Widest types first keeps every tensor aligned to its own size.
    names = sorted(tensors, key=lambda name: (-dtypes[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        begin, end = end, end + tensors[name].numel() * dtypes[name].itemsize
        header[name] = {
            "dtype": _DTYPE_NAMES[dtypes[name]],
            "shape": list(tensors[name].shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with written_whole(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            tensor = tensors[name].detach().to(dtypes[name]).contiguous()
            if not bool(tensor.isfinite().all()):
                raise WeightsInvalid(f"the tensor `{name}` holds numbers that are not finite")
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)


def _dtype(model: str, name: str, tensor: Tensor, precision: Precision) -> torch.dtype:
    if not tensor.dtype.is_floating_point:
        return torch.int64
    return stored_dtype(name, precision) if model == "hmr2" else torch.float32


def _file_facts(path: Path) -> dict[str, Any]:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _hmr2(sources: Mapping[str, Path]) -> Conversion:
    path = sources["hmr2_checkpoint"]
    state = checkpoint_tensors(path, "state_dict")
    vit, head = hmr2_configs(state, read_yaml(sources["hmr2_config"]), path.name)
    accounted = account(state, hmr2_shapes(vit, head), HMR2_IGNORED, path.name)
    return Conversion(
        tensors=hmr2_tensors(accounted.used),
        config={"backbone": "vit", "vit": asdict(vit), "head": asdict(head), "focal_length": FOCAL_LENGTH},
        ignored=accounted.ignored,
    )


def _smpl(sources: Mapping[str, Path]) -> Conversion:
    body = read_body(sources["smpl"], read_joint_regressor(sources["joint_regressor"]))
    notes = []
    if "hmr2_checkpoint" in sources:
        path = sources["hmr2_checkpoint"]
        notes = body_differences(body, checkpoint_tensors(path, "state_dict"))
    return Conversion(tensors=body_tensors(body), notes=notes)


def _appearance(sources: Mapping[str, Path]) -> Conversion:
    path = sources["appearance_checkpoint"]
    accounted = appearance_tensors(checkpoint_tensors(path, "model"), path.name)
    return Conversion(tensors=accounted.used, ignored=accounted.ignored)


def _pose_predictor(sources: Mapping[str, Path]) -> Conversion:
    path = sources["predictor_checkpoint"]
    accounted = predictor_tensors(checkpoint_tensors(path, "state_dict"), path.name)
    config = predictor_config(accounted.used, read_yaml(sources["predictor_config"]))
    statistics = pose_statistics(sources["pose_mean_std"])
    return Conversion(tensors={**accounted.used, **statistics}, config=config, ignored=accounted.ignored)


def _uv_map(sources: Mapping[str, Path]) -> Conversion:
    return Conversion(tensors=uv_map_tensors(sources["uv_barycentric"], sources["uv_faces"]))


_READERS: Mapping[str, Callable[[Mapping[str, Path]], Conversion]] = {
    "hmr2": _hmr2,
    "smpl": _smpl,
    "appearance": _appearance,
    "pose_predictor": _pose_predictor,
    "uv_map": _uv_map,
}

"""Official files to the store: safetensors and small JSON files, every key accounted for.

Memory stays at about one tensor beyond what the operating system maps of the sources.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model_cache.errors import StoreUnavailable, WeightsInvalid, WeightsMissing
from model_cache.networks.hmr2 import FOCAL_LENGTH
from model_cache.store.body_files import body_differences, body_tensors, read_body, read_joint_regressor
from model_cache.store.files import FORMAT, STORE_FILE, read_store, sha256_of
from model_cache.store.hmr2_weights import HMR2_IGNORED, hmr2_configs, hmr2_shapes, hmr2_tensors, stored_dtype
from model_cache.store.keys import account, read_yaml
from model_cache.store.manifest import MODEL_SOURCES, OFFICIAL_FILES, Precision
from model_cache.store.phalp_weights import (
    appearance_tensors,
    pose_statistics,
    predictor_config,
    predictor_tensors,
    uv_map_tensors,
)
from model_cache.store.pickles import checkpoint_tensors
from ops.files import write_json, written_whole
from ops.weights.locations import by_rank, files_below

_DTYPE_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """One model, read from its official files and named as our networks name it."""

    tensors: Mapping[str, Tensor]  # by our name; may still lie in the source file
    config: Mapping[str, Any] | None = None  # sizes and settings
    ignored: Mapping[str, str] = field(default_factory=dict)  # reason by official key
    notes: Sequence[str] = ()  # sentences that the operator should read


def convert(
    paths: Sequence[Path],
    out: Path,
    *,
    precision: Precision = "fp32",
    only: Collection[str] = tuple(MODEL_SOURCES),
) -> dict[str, Any]:
    """Converts official files and returns what `store.json` now says of the converted models.

    Args:
        paths: official files, and folders that hold them in any depth.
        out: the store; models converted earlier stay in it.
        precision: of HMR2's backbone in the store. fp32 can be loaded as either.
        only: models to convert, names of `MODEL_SOURCES`.

    Raises:
        WeightsMissing: a path does not exist, or needed files were not found (all of them are named).
        WeightsInvalid: a file is not what it should be, or two different files claim the same role. The store
            is left as it was for that model.
    """
    sources = _find_sources(paths, only)
    report = read_store(out)
    chosen = [model for model in MODEL_SOURCES if model in only]
    for model in chosen:
        conversion = _READERS[model](sources)
        report["models"][model] = {
            "sources": {role: _file_facts(sources[role]) for role in MODEL_SOURCES[model]},
            "files": _write(out, model, conversion, precision),
            "ignored_keys": dict(conversion.ignored),
            "notes": list(conversion.notes),
        }
        write_json(out / STORE_FILE, report)
    return {model: report["models"][model] for model in chosen}


def _find_sources(paths: Sequence[Path], models: Iterable[str]) -> dict[str, Path]:
    """The official file of each role that `models` need, and the optional ones that are there.

    A file given by itself comes before one found in a folder.
    """
    absent = [str(path.absolute()) for path in paths if not path.exists()]
    if absent:
        wanted = f"name the official files ({OFFICIAL_FILES[0].name}, ...) or folders that hold them"
        raise WeightsMissing(f"no such file or folder: {', '.join(absent)}; {wanted}")
    given = [path for path in paths if path.is_file()]
    listed = [file for path in paths if path.is_dir() for file in files_below(path)]
    found = {}
    for source in OFFICIAL_FILES:
        ranked = by_rank(given, source) or by_rank(listed, source)
        if ranked:
            found[source.role] = _only_one([p for rank, p in ranked if rank == ranked[0][0]], source.role)
    needed = {role for model in models for role in MODEL_SOURCES[model]}
    missing = [source for source in OFFICIAL_FILES if source.role in needed - found.keys()]
    if missing:
        where = ", ".join(str(path.absolute()) for path in paths)
        lines = [f"{source.name} (from {source.origin})" for source in missing]
        raise WeightsMissing("\n- ".join([f"official files that are not in {where}:", *lines]))
    return found


def _only_one(candidates: Sequence[Path], role: str) -> Path:
    """One file, when several are copies of each other (PHALP and HMR2 both ship some)."""
    if len(candidates) > 1 and len({sha256_of(path) for path in candidates}) > 1:
        names = ", ".join(str(path) for path in candidates)
        raise WeightsInvalid(f"several different files for `{role}`: {names}. Name the right one by itself")
    return candidates[0]


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

    (`safetensors.torch.save_file` builds the whole file in memory first.) Each is stored as `dtypes` says.

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
    checkpoint = sources.get("hmr2_checkpoint")
    notes = body_differences(body, checkpoint_tensors(checkpoint, "state_dict")) if checkpoint else []
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

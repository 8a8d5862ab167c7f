"""Weights by the rule of golden/README.md section 1, and the official files that would hold them.

The files have the layout and the traps of the official downloads (foreign classes, training leftovers,
wrappers in keys, Python-2 pickles), so that every test on them passes through the conversion.
"""

import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml

from model_cache.networks.pose_transformer import PoseTransformer
from model_cache.store.load import load_pose_predictor
from ops.weights.convert import convert
from tests.foreign_pickles import chumpy_array, foreign_modules, foreign_object, scipy_csc, write_python2
from tests.goldens import load_golden

Shape = tuple[int, ...]
Predictor = Literal["tiny", "tiny_posed", "lart256"]  # `tiny_posed`: with a weaker pose read-out


def zrule(key: str, shape: Shape) -> np.ndarray:
    """Unit-variance uniform numbers that depend on the key alone, float64."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    z = rng.random(shape)
    z *= 2  # in place: a ViT-H matrix is 50 MB in float64
    z -= 1
    z *= math.sqrt(3)
    return z


def weight(key: str, shape: Shape) -> np.ndarray:
    """The tensor of an official key."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    z = zrule(key, shape)
    if key.endswith("running_var"):
        z = 1 + 0.2 * z**2
    elif key.endswith("running_mean"):
        z *= 0.1
    elif any(name in key for name in ("pos_embed", "mask_token", "class_token")):
        z *= 0.2
    elif len(shape) == 1 and key.endswith(".weight"):
        z = 1 + 0.1 * z
    elif len(shape) == 1:
        z *= 0.05
    else:
        # Same order of operations as the rule's, since a few values are checked to the last bit.
        z *= _gain(key, shape)
        z /= math.sqrt(math.prod(shape[1:]))
    return z.astype(np.float32)


def _gain(key: str, shape: Shape) -> float:
    if key.endswith("decshape.weight"):
        return 0.2
    if key.endswith(("decpose.weight", "deccam.weight")):
        return 0.03
    if key.endswith("conv5_1.weight"):
        return 8.0
    return math.sqrt(2) if len(shape) == 4 else 1.0


def standin_posedirs() -> np.ndarray:
    """The pose blend shapes of the stand-in body, (6890, 3, 207) float32."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(b"standin.posedirs")))
    return (0.0008 * (2 * rng.random((6890, 3, 207)) - 1)).astype(np.float32)


def official_state(keys: Mapping[str, Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Every tensor of a listing of state_dict_keys.json that the rule or the stand-ins define."""
    params = load_golden("standin_params")
    means = {"init_body_pose": "mean_pose", "init_betas": "mean_shape", "init_cam": "mean_cam"}
    state = {}
    for key, facts in keys.items():
        shape = tuple(facts["shape"])
        name = key.rpartition(".")[2]
        if key.startswith("smpl."):
            continue
        if name in means:
            state[key] = torch.from_numpy(params[means[name]].reshape(shape))
        elif key == "initialized":
            state[key] = torch.tensor(data=True)
        elif key in ("encoder.pos_embedding", "encoder.pe"):  # a table of sines that nobody reads
            state[key] = torch.zeros(shape)
        else:
            state[key] = torch.from_numpy(weight(key, shape))
    return state


def write_official_files(
    folder: Path, *, hmr2: Literal["tiny", "full"] = "tiny", predictor: Predictor = "tiny"
) -> Path:
    """Writes what 4D-Humans (`hmr2/`, as its archive unpacks), PHALP (`phalp/`) and SMPL ship, by the rule.

    `tiny` are the goldens' small networks; the `full` HMR2 is ViT-H (2.5 GB).
    """
    write_hmr2(folder / "hmr2", hmr2)
    write_body(folder / "hmr2" / "data")
    write_phalp(folder / "phalp", predictor)
    return folder


def write_hmr2(folder: Path, size: Literal["tiny", "full"]) -> None:
    """The Lightning checkpoint with all that training left in it, and model_config.yaml."""
    run = folder / "logs" / "train" / "multiruns" / "hmr2" / "0"
    (run / "checkpoints").mkdir(parents=True)
    decoder = {"depth": 6, "heads": 8, "mlp_dim": 1024, "dim_head": 64, "dropout": 0.0, "norm": "layer"}
    backbone: dict[str, Any] = {"TYPE": "vit"}
    if size == "tiny":
        decoder |= {"depth": 2, "heads": 2, "mlp_dim": 96, "dim_head": 32, "context_dim": 64}
        backbone["NUM_HEADS"] = 2
    head = {"TYPE": "transformer_decoder", "IN_CHANNELS": 2048, "TRANSFORMER_DECODER": decoder}
    image = {"IMAGE_SIZE": 256, "IMAGE_MEAN": [0.485, 0.456, 0.406], "IMAGE_STD": [0.229, 0.224, 0.225]}
    config = {
        "MODEL": {**image, "BACKBONE": backbone, "SMPL_HEAD": head},
        "SMPL": {"MODEL_PATH": "data/smpl", "GENDER": "neutral", "NUM_BODY_JOINTS": 23},
        "EXTRA": {"FOCAL_LENGTH": 5000},
    }
    (run / "model_config.yaml").write_text(yaml.safe_dump(config))
    state = official_state(load_golden("state_dict_keys.json")[f"hmr2_{size}"])
    state["discriminator.D_conv1.weight"] = torch.ones(32, 9, 1, 1)
    state["discriminator.betas_fc1.bias"] = torch.ones(10)
    state["smpl.v_template"] = torch.from_numpy(load_golden("standin_smpl")["v_template"])
    with foreign_modules("yacs.config", "pytorch_lightning.callbacks"):
        checkpoint = {
            "epoch": 35,
            "global_step": 1_000_000,
            "pytorch-lightning_version": "1.8.1",
            "state_dict": state,
            "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(4, 4)}}, "param_groups": []}],
            "lr_schedulers": [],
            "callbacks": {"checkpoint": foreign_object("pytorch_lightning.callbacks", "Checkpoint", best=1)},
            "hyper_parameters": foreign_object("yacs.config", "CfgNode", items=config, frozen=True),
        }
        torch.save(checkpoint, run / "checkpoints" / "epoch=35-step=1000000.ckpt")


def write_body(folder: Path) -> None:
    """The stand-in body as SMPL_NEUTRAL.pkl of Python 2, and SMPL_to_J19.pkl, smpl_mean_params.npz."""
    body = load_golden("standin_smpl")
    params = load_golden("standin_params")
    (folder / "smpl").mkdir(parents=True)
    parents = body["parents"].astype(np.uint32)  # the root's -1 overflows, as in the official file
    with foreign_modules("chumpy.ch", "scipy.sparse.csc"):
        content = {
            "v_template": chumpy_array(body["v_template"].astype(np.float64)),
            "shapedirs": chumpy_array(body["shapedirs"].astype(np.float64)),
            "posedirs": chumpy_array(standin_posedirs().astype(np.float64)),
            "J_regressor": scipy_csc(body["J_regressor"].astype(np.float64)),
            "weights": chumpy_array(body["lbs_weights"].astype(np.float64)),
            "kintree_table": np.stack((parents, np.arange(24, dtype=np.uint32))),
            "f": body["faces"].astype(np.uint32),
            "bs_style": "lbs",
        }
        write_python2(folder / "smpl" / "SMPL_NEUTRAL.pkl", content)
        write_python2(folder / "SMPL_to_J19.pkl", body["J19"].astype(np.float64))
    means = {name: params[f"mean_{name}"] for name in ("pose", "shape", "cam")}
    np.savez(folder / "smpl_mean_params.npz", **means)


def write_phalp(folder: Path, predictor: Predictor) -> None:
    """PHALP's download folder as far as the 4D-Humans path needs it."""
    keys = load_golden("state_dict_keys.json")
    params = load_golden("standin_params")
    maps = load_golden("standin_uvmaps")
    (folder / "3D").mkdir(parents=True)
    (folder / "weights").mkdir()
    np.save(folder / "bmap_256.npy", maps["bmap"])
    np.save(folder / "fmap_256.npy", maps["fmap"].astype(np.int64))
    mean_std = np.empty(2, dtype=object)
    mean_std[0], mean_std[1] = params["pose_mean"], params["pose_std"]
    np.save(folder / "3D" / "mean_std.npy", mean_std, allow_pickle=True)

    hmar = {f"hmar.{key}": tensor for key, tensor in official_state(keys["hmar_used"]).items()}
    hmar["hmar.texture_head.fc1.weight"] = torch.ones(4, 4)
    hmar["hmar.backbone.conv1.weight"] = torch.ones(4, 3, 7, 7)
    torch.save({"model": hmar, "epoch": 1}, folder / "weights" / "hmar_v2_weights.pth")

    name = predictor.removesuffix("_posed")
    state = official_state(keys["pose_predictor"][name])
    if predictor == "tiny_posed":
        for part in ("decpose", "decshape"):
            key = f"encoder.smpl_head.0.{part}"
            state[f"{key}.weight"] *= 0.5
            bias = zrule(f"{key}.bias", tuple(state[f"{key}.bias"].shape))
            state[f"{key}.bias"] = torch.from_numpy((0.0025 * bias).astype(np.float32))
    with foreign_modules("omegaconf.dictconfig"):
        checkpoint = {
            "state_dict": state,
            "hyper_parameters": foreign_object("omegaconf.dictconfig", "DictConfig", content={"a": 1}),
        }
        torch.save(checkpoint, folder / "weights" / "pose_predictor.pth")
    config = {"configs": keys["pose_predictor_configs"][name], "task_name": "train"}
    (folder / "weights" / "pose_predictor.yaml").write_text(yaml.safe_dump(config))


def golden_pose_transformer(folder: Path, name: Predictor) -> PoseTransformer:
    """The goldens' pose predictor through official files and their conversion, which lie below `folder`."""
    write_phalp(folder / "official", name)
    convert([folder / "official"], folder / "store", only=["pose_predictor"])
    return load_pose_predictor(folder / "store")

"""From the start of a worker's process to its first answer: `python -m benchmarks.cold_start`.

The store is made for the run: HMR2 (ViT-H) and RF-DETR-Seg-large of full size with random weights, PHALP's
networks of the official sizes, the tests' stand-in body. `--store FOLDER` keeps it, or measures one that is
there.
Every run is a process of its own, once with the store's files dropped from the page cache (as on a machine
that has just got them) and then with them in it. The simplest way to load HMR2, for the ratio: a network that
is initialised and then filled from `torch.load` without mapping; both end when every weight was read once.

Measured figures: docs/09-weights.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

DETECTOR = "rf-detr-seg-large"
OURSELVES = (sys.executable, "-m", "benchmarks.cold_start")
FRAME_SIZE = (720, 1280)
STEPS = (
    *("interpreter", "import torch", "import transformers", "import the worker and RunPod's SDK"),
    *("hmr2", "phalp", "detector", "rest of loading", "warm_up", "first answer"),
)


def main() -> None:
    """Prints the table, or measures one start where it is the measured process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="kept; made if it is not there")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="default: bf16 on a GPU, else fp32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--frames", type=int, default=8, help="frames a batch, as WORKER_BATCH_FRAMES")
    parser.add_argument("--skip-plain", action="store_true", help="leave out the comparison of loading")
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        print(load_seconds(options.load))
    elif options.started:
        print(json.dumps(measure(options)))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Starts the processes and prints their times side by side."""
    import torch

    on_gpu = options.device != "cpu" and torch.cuda.is_available()
    precision = options.precision or ("bf16" if on_gpu else "fp32")
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or Path(folder) / "store"
        if not (store / "store.json").is_file():
            write_store(store, precision)
        size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
        where = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
        print(f"store: {size / 2**30:.2f} GiB, HMR2 in {precision}; {where}; load {os.getloadavg()[0]:.1f}")
        cold = one_start(store, precision, options, cached=False)
        warm = one_start(store, precision, options, cached=True)
        print(f"\n{'seconds':42}{'cold disk':>12}{'page cache':>12}")
        for step in (*STEPS, "in all", "processor seconds"):
            print(f"{step:42}{cold[step]:12.2f}{warm[step]:12.2f}")
        if not options.skip_plain:
            plain, ours = compare_loading(store, Path(folder))
            print(f"\nHMR2 alone, all weights read: {plain:.2f} s, ours {ours:.2f} s: {plain / ours:.1f}x")


def one_start(store: Path, precision: str, options: argparse.Namespace, *, cached: bool) -> dict[str, float]:
    """Times of one process, seconds by step."""
    for path in store.rglob("*.safetensors"):
        with path.open("rb") as file:
            if cached:
                while file.read(2**24):
                    pass
            else:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    command = [*OURSELVES, "--store", str(store), "--device", options.device, "--precision", precision]
    command += ["--frames", str(options.frames), "--started", str(time.time())]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    times: dict[str, float] = json.loads(answer.splitlines()[-1])
    return times


def measure(options: argparse.Namespace) -> dict[str, float]:
    """This process from its start to the first people found."""
    times = {"interpreter": time.time() - options.started}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        times[step] = time.perf_counter() - start

    with timed("import torch"):
        import torch  # noqa: F401 - the import is what is measured
    with timed("import transformers"):
        from transformers import RfDetrForInstanceSegmentation  # noqa: F401 - as above
    with timed("import the worker and RunPod's SDK"):
        import numpy as np

        import handler.worker
        from handler.settings import Settings
        from model_cache.interfaces import PerceptionOptions
        from model_cache.load import load
        from model_cache.settings import ModelSettings

        handler.worker.prepare(Settings())
    settings = ModelSettings(
        models="official",
        model_store=options.store,
        model_device=options.device,
        model_precision=options.precision,
        detector=DETECTOR,
        detector_score_floor=0,
    )
    with timed("load"):
        models = load(settings, warm_up_frames=options.frames)
    times |= models.seconds  # type: ignore[attr-defined]  # of LoadedModels
    named = sum(times[step] for step in ("hmr2", "phalp", "detector", "warm_up"))
    times["rest of loading"] = times.pop("load") - named
    with timed("first answer"):
        noise = np.random.default_rng(0)
        frames = [noise.integers(0, 255, (*FRAME_SIZE, 3), np.uint8) for _ in range(options.frames)]
        anybody = PerceptionOptions(score_threshold=-1, small_w=0, small_h=0, max_people=1)
        models.perception.perceive(frames, range(options.frames), anybody)
    times["in all"] = time.time() - options.started
    times["processor seconds"] = time.process_time()
    return times


def compare_loading(store: Path, folder: Path) -> list[float]:
    """Seconds of the simplest way to load HMR2's networks and of ours, each in a process of its own."""
    import torch

    from model_cache.store.load import read_config, read_tensors

    checkpoint = folder / "hmr2.pth"
    torch.save({"config": read_config(store, "hmr2"), "state": read_tensors(store, "hmr2")}, checkpoint)
    seconds = []
    for path in (checkpoint, store):
        command = [*OURSELVES, "--load", str(path)]
        seconds.append(float(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout))
    return seconds


def load_seconds(path: Path) -> float:
    """Loads HMR2 from a checkpoint the simplest way, or from a store our way, and reads every weight."""
    import torch
    from torch import nn

    from model_cache.networks.decoder import HeadConfig, SmplHead
    from model_cache.networks.vit import VitBackbone, VitConfig
    from model_cache.store.load import load_hmr2

    start = time.perf_counter()
    if path.is_dir():
        network: nn.Module = load_hmr2(path)
    else:
        content = torch.load(path, weights_only=True)
        vit, head = VitConfig(**content["config"]["vit"]), HeadConfig(**content["config"]["head"])
        network = nn.ModuleDict({"backbone": VitBackbone(vit), "head": SmplHead(head)})
        network.load_state_dict(content["state"])
    for weight in network.parameters():
        weight.flatten().view(torch.uint8)[::4096].max()  # touches every page
    return time.perf_counter() - start


def write_store(store: Path, precision: str) -> None:
    """A store of full size with random weights, as `convert` and `fetch` would leave it."""
    from model_cache.store.files import FORMAT, STORE_FILE, read_store, sha256_of
    from ops.files import write_json
    from ops.weights.convert import convert
    from tests.weight_rule import write_body, write_phalp

    with tempfile.TemporaryDirectory() as folder:
        write_body(Path(folder) / "hmr2")
        write_phalp(Path(folder) / "phalp", "lart256")
        convert([Path(folder)], store, only=("smpl", "appearance", "pose_predictor", "uv_map"))
    write_hmr2(store, precision)
    write_detector(store / DETECTOR)
    report = read_store(store)
    files = [store / "hmr2.safetensors", store / "hmr2.json"]
    facts = {p.name: {"name": p.name, "bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in files}
    report["models"]["hmr2"] = {
        "sources": {},
        "files": facts,
        "ignored_keys": {},
        "notes": ["random weights"],
    }
    write_json(store / STORE_FILE, report | {"format": FORMAT})


def write_hmr2(store: Path, precision: str) -> None:
    """ViT-H and head: each matrix repeats one random row, so that it needs no memory to write."""
    import torch
    from torch import nn

    from model_cache.networks.decoder import HeadConfig, SmplHead
    from model_cache.networks.hmr2 import FOCAL_LENGTH
    from model_cache.networks.vit import VitBackbone, VitConfig
    from model_cache.store.files import FORMAT
    from model_cache.store.hmr2_weights import stored_dtype
    from ops.files import write_json
    from ops.weights.convert import write_tensors

    vit, head = VitConfig(), HeadConfig()
    with torch.device("meta"):
        network = nn.ModuleDict({"backbone": VitBackbone(vit), "head": SmplHead(head)})
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: (0.02 * torch.randn(meta.shape[-1], generator=generator)).expand(meta.shape)
        for name, meta in network.state_dict().items()
    }
    dtypes = {name: stored_dtype(name, precision) for name in tensors}
    write_tensors(store / "hmr2.safetensors", tensors, dtypes)
    config: dict[str, Any] = {"backbone": "vit", "vit": asdict(vit), "head": asdict(head)}
    write_json(
        store / "hmr2.json",
        {"format": FORMAT, **config, "focal_length": FOCAL_LENGTH, "precision": precision},
    )


def write_detector(folder: Path) -> None:
    """RF-DETR-Seg-large with its own initial weights, in the hub's layout."""
    from transformers import RfDetrConfig, RfDetrForInstanceSegmentation
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = RfDetrConfig(
        backbone_config={
            "model_type": "rf_detr_dinov2",
            "hidden_size": 384,
            "num_hidden_layers": 12,
            "num_attention_heads": 6,
            "image_size": 504,
            "patch_size": 12,
            "num_windows": 2,
            "out_features": ["stage3", "stage6", "stage9", "stage12"],
        },
        d_model=256,
        decoder_layers=5,
        decoder_self_attention_heads=8,
        decoder_cross_attention_heads=16,
        decoder_n_points=2,
        num_queries=300,
        num_labels=91,
    )
    RfDetrForInstanceSegmentation(config).save_pretrained(folder)


if __name__ == "__main__":
    main()

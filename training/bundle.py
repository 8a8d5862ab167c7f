"""Put trained networks into `model_cache/lite/`: float16 safetensors and their sizes in `lite.json`.

python -m training.bundle --head build/head/last.pt --predictor build/pose_predictor.pt \
    --appearance build/appearance.pt
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from model_cache.lite.files import LITE_FOLDER
from training import set_predictor, train_head


def main() -> None:
    """Write what is given; the sizes are those of the training scripts."""
    parser = argparse.ArgumentParser()
    for name in ("head", "predictor", "appearance"):
        parser.add_argument(f"--{name}", type=Path)
    options = parser.parse_args()
    for source, target in (
        (options.head, "hmr2"),
        (options.predictor, "pose_predictor"),
        (options.appearance, "appearance"),
    ):
        if source is not None:
            write(source, LITE_FOLDER / f"{target}.safetensors")
    sizes = {
        "backbone": asdict(train_head.BACKBONE),
        "head": asdict(train_head.HEAD),
        "pose_predictor": asdict(set_predictor.CONFIG),
    }
    (LITE_FOLDER / "lite.json").write_text(json.dumps(sizes, indent=1) + "\n")


def write(source: Path, target: Path) -> None:
    """One network's weights in float16."""
    state = {name: tensor.half().contiguous() for name, tensor in torch.load(source).items()}
    assert all(bool(tensor.isfinite().all()) for tensor in state.values())
    save_file(state, target)
    target.chmod(0o644)  # save_file leaves it private
    print(f"{target.name}: {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

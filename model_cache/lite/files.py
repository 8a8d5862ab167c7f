"""The bundled files, by their role. Knows nothing of what is in them, and needs no torch."""

from pathlib import Path

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

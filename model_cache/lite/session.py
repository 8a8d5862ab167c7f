"""Open one of the bundled ONNX networks on the CPU. Knows nothing of what it computes."""

import onnxruntime

from model_cache.lite.files import LITE_FOLDER


def open_session(file_name: str, num_threads: int) -> onnxruntime.InferenceSession:
    """A session of a bundled network.

    Args:
        file_name: name in this folder.
        num_threads: threads inside one operation; 0 lets onnxruntime choose.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    # Threads that wait in a loop take the processor from decoding and tracking.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # the folded float16 casts of the weights are not worth a warning
    return onnxruntime.InferenceSession(
        str(LITE_FOLDER / file_name), options, providers=["CPUExecutionProvider"]
    )

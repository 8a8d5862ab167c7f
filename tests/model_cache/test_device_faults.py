"""Errors of the device, told apart by what cures them; and its memory, as it sees it."""

import numpy as np
import pytest
import torch

from model_cache.errors import DeviceFault, DeviceOutOfMemory
from model_cache.interfaces import PerceptionOptions
from model_cache.networks.appearance import AppearanceEncoder, UvTexture, UvTextureModel
from model_cache.networks.detector import Detector, ReplayDetector
from model_cache.networks.device import device_faults, peak_memory
from model_cache.networks.smpl import SmplBody
from model_cache.perception import NativePerception
from model_cache.store.load import load_body

# As torch 2.x words them; `AcceleratorError` and `OutOfMemoryError` are its types for two of the kinds.
FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
]
FAILED = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_MAPPING_ERROR"),
    RuntimeError("CUDA driver error: unknown error"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "CUDACachingAllocator.cpp":1123'),
]
OURS = [
    RuntimeError("The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 0"),
    ValueError("a person's box has no size or is not finite"),
]


def told_as(error: Exception) -> Exception:
    """What leaves the block."""
    with pytest.raises(Exception) as caught, device_faults():
        raise error
    return caught.value


@pytest.mark.parametrize("error", FULL, ids=str)
def test_full_memory_is_told_whoever_asked_for_it(error):
    """Torch's allocator, the runtime, the driver, cuBLAS, cuDNN or the host."""
    assert isinstance(told_as(error), DeviceOutOfMemory)


@pytest.mark.parametrize("error", FAILED, ids=str)
def test_a_failed_device_is_told_whoever_noticed(error):
    """A new process cures all of them; only the first line is told."""
    told = told_as(error)

    assert isinstance(told, DeviceFault)
    assert str(error).splitlines()[0] in str(told)


@pytest.mark.parametrize("error", OURS, ids=str)
def test_faults_of_the_code_stay_what_they_are(error):
    """A mistake here must not replace a worker."""
    assert told_as(error) is error


class Fails(Detector):
    """Fails on more than so many frames."""

    def __init__(self, error: Exception, most_frames: int) -> None:
        self.error, self.most_frames = error, most_frames
        self.seen: list[int] = []

    def detect(self, frames_bgr, frame_indices):
        self.seen.append(len(frames_bgr))
        if len(frames_bgr) > self.most_frames:
            raise self.error
        return ReplayDetector({}).detect(frames_bgr, frame_indices)


@pytest.mark.parametrize("error", FULL[1:], ids=str)
def test_memory_that_ends_in_other_hands_halves_the_batch(error, unchecked_types):
    """As where torch's own allocator says so."""
    detector = Fails(error, most_frames=2)
    perception = NativePerception(
        detector=detector, bodies=None, sampler=None, device=torch.device("cpu"), max_crops=1
    )

    people = perception.perceive([np.zeros((4, 4, 3), np.uint8)] * 4, range(4), PerceptionOptions())

    assert detector.seen == [4, 2, 2]
    assert len(people) == 4


def raising(error: Exception, most: int):
    """A hook that fails for batches of more than so many."""

    def hook(module, given) -> None:
        if len(given[0]) > most:
            raise error

    return hook


def test_memory_that_ends_in_other_hands_halves_the_pairs(unchecked_types):
    """Two pairs at once are too many for cuDNN, so they are compared one by one; one alone must fit."""
    texture = UvTexture(texels=torch.ones(4, 32, 32))
    pairs = np.array([[0, 0], [0, 0]])
    encoder = AppearanceEncoder((4,) * 6).requires_grad_(False)
    model = UvTextureModel(encoder)
    hook = encoder.register_forward_pre_hook(raising(FULL[4], most=2))

    assert model.distance([texture], [texture], pairs).tolist() == [0, 0]
    hook.remove()
    encoder.register_forward_pre_hook(raising(FULL[4], most=0))
    with pytest.raises(DeviceOutOfMemory, match="one pair"):
        model.distance([texture], [texture], pairs)


def test_a_device_that_fails_while_results_are_written_is_told(official_tiny_store):
    """The bodies of people who are lost and shown are posed then."""
    body = load_body(official_tiny_store / "smpl.safetensors")
    body.register_forward_pre_hook(raising(FAILED[0], most=0))
    eye = np.tile(np.eye(3, dtype=np.float32), (1, 24, 1, 1))

    with pytest.raises(DeviceFault):
        SmplBody(body).joints(eye[:, :1], eye[:, 1:], np.zeros((1, 10), np.float32))


def test_memory_counts_what_is_outside_of_torch(monkeypatch):
    """Of 80 GB 10 are in use, 6 of them torch's reserve, which was 9 at its largest: 13 at the peak."""
    gb, reset = 10**9, []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70 * gb, 80 * gb))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 6 * gb)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 9 * gb)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)

    assert peak_memory(torch.device("cuda")) == 13 * gb
    assert reset == [torch.device("cuda")]
    assert peak_memory(torch.device("cpu")) is None

"""Detector, crops, HMR2 and texture composed into one device pass over a batch of frames."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from numpy import ndarray
from torch import Tensor

from model_cache.errors import DeviceOutOfMemory, ModelOutputInvalid
from model_cache.interfaces import People, PerceptionOptions, Texture
from model_cache.networks.appearance import UvTexture
from model_cache.networks.crops import Selection, crop_people, crop_people_on_device, pad_boxes, select
from model_cache.networks.detector import Candidates, Detector
from model_cache.networks.device import device_faults, to_device, to_host
from model_cache.networks.hmr2 import BodyEstimator
from model_cache.networks.rle import encode_mask
from model_cache.networks.texture import TextureSampler

WARM_UP_SIZE = (720, 1280)  # height, width of the blank frames

# What leaves the device of each person, packed into one tensor, so that a batch is fetched once.
_FETCHED = ("global_orient", "body_pose", "betas", "crop_cam", "joints_3d", "smpl_joints_3d")
_COLUMNS = np.dtype(  # the same numbers as columns of `People`
    [
        ("rotations", np.float32, (24, 3, 3)),
        ("betas", np.float32, (10,)),
        ("crop_cam", np.float32, (3,)),
        ("joints_3d", np.float32, (44, 3)),
        ("smpl_joints_3d", np.float32, (24, 3)),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """The people to look at in one frame, before their bodies are known."""

    selection: Selection
    bbox_xyxy: Float32[ndarray, "n 4"]
    bbox_padded_xyxy: Float32[ndarray, "n 4"]
    scores: Float32[ndarray, " n"]
    paint_masks: Callable[[], Bool[Tensor, "n h w"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What is known of the people of some frames, in order."""

    numbers: Float32[Tensor, "n 433"]  # on the device still, as rows of `_COLUMNS`
    textures: Sequence[Tensor]
    masks_rle: tuple[str, ...] | None


class NativePerception:
    """`Perception` with our own inference.

    Memory on the device: the frames of the batch, one batch of crops with its activations and a mask of each
    of its people, and 1 MB of texture per kept person.

    The host waits for the device before the crops (the detections), once per batch of crops (how many pixels
    its triangles may cover), and for the results; for masks, if asked for, once more per batch of crops.

    Args:
        detector: finds people in frames on the device.
        bodies: crops to bodies.
        sampler: crops and bodies to textures.
        device: where all of them are.
        max_crops: most people in one batch of crops.
    """

    def __init__(
        self,
        *,
        detector: Detector,
        bodies: BodyEstimator,
        sampler: TextureSampler,
        device: torch.device,
        max_crops: int = 32,
    ) -> None:
        self._detector = detector
        self._bodies = bodies
        self._sampler = sampler
        self._device = device
        self._max_crops = max_crops

    def perceive(
        self,
        images_bgr: Sequence[UInt8[ndarray, "_ _ 3"]],
        frame_indices: Sequence[int],
        options: PerceptionOptions,
    ) -> list[People]:
        """One record per image, in order; see `interfaces.Perception`."""
        try:
            with device_faults():
                return self._perceive_at_once(images_bgr, frame_indices, options)
        except DeviceOutOfMemory as error:
            if len(images_bgr) == 1:
                raise DeviceOutOfMemory("one frame alone does not fit on the device") from error
        # Here the exception is gone, and with it the frames of its traceback, which held the batch's tensors.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(images_bgr) // 2
        return [
            *self.perceive(images_bgr[:half], frame_indices[:half], options),
            *self.perceive(images_bgr[half:], frame_indices[half:], options),
        ]

    @torch.inference_mode()
    def warm_up(self, num_frames: int) -> tuple[Texture, ...]:
        """Do once all that jobs do: detector on blank frames, masks, crops, HMR2, textures.

        HMR2 runs in every batch size; on the CPU the smallest stands for all, since there no kernel is chosen
        or loaded for a size, and the large ones take seconds.

        Returns:
            The textures of the largest batch.
        """
        blank = np.zeros((*WARM_UP_SIZE, 3), np.uint8)
        (frame,) = to_device([blank], self._device)
        self._detector.warm_up([frame] * num_frames)
        sizes = self._bodies.batch_sizes if self._device.type == "cuda" else self._bodies.batch_sizes[:1]
        options = PerceptionOptions(masks=True)
        for size in sizes:
            measured = self._measure([blank], [frame], [_made_up(size, self._device)], options)
            _fetch(measured.numbers)
        return tuple(UvTexture(texels=texels) for texels in measured.textures)

    @torch.inference_mode()
    def _perceive_at_once(
        self,
        images_bgr: Sequence[UInt8[ndarray, "_ _ 3"]],
        frame_indices: Sequence[int],
        options: PerceptionOptions,
    ) -> list[People]:
        frames = to_device(images_bgr, self._device)
        chosen = [_choose(found, options) for found in self._detector.detect(frames, frame_indices)]
        counts = [len(c.scores) for c in chosen]
        # Crops go through in parts of whole frames, as many as fill a batch; a crowded frame is a part alone.
        parts = [part for part in _parts(counts, self._max_crops) if any(counts[part])]
        measured = [self._measure(images_bgr[p], frames[p], chosen[p], options) for p in parts]
        rows = _fetch(torch.cat([part.numbers for part in measured])) if parts else np.zeros(0, _COLUMNS)
        textures = [texels for part in measured for texels in part.textures]
        masks_rle = [text for part in measured for text in part.masks_rle or ()]
        people, end = [], 0
        for c in chosen:
            of_frame = slice(end, end := end + len(c.scores))
            rle = tuple(masks_rle[of_frame]) if options.masks else None
            people.append(_record(c, rows[of_frame], textures[of_frame], rle))
        return people

    def _measure(
        self,
        images_bgr: Sequence[UInt8[ndarray, "_ _ 3"]],
        frames: Sequence[UInt8[Tensor, "_ _ 3"]],
        chosen: Sequence[_Chosen],
        options: PerceptionOptions,
    ) -> _Measured:
        """Bodies and textures of the chosen people of some frames, at least one person."""
        masks = [c.paint_masks() for c in chosen]
        crops = self._crop(images_bgr, frames, chosen, masks)
        encoded = (
            tuple(encode_mask(m) for of_frame in to_host(*masks) for m in of_frame) if options.masks else None
        )
        del masks
        bodies = self._bodies(crops[:, :3])
        textures = self._sampler.sample(crops, bodies.vertices + bodies.crop_cam_t[:, None])
        numbers = torch.cat([getattr(bodies, name).flatten(1) for name in _FETCHED], dim=1)
        return _Measured(numbers=numbers, textures=textures.unbind(), masks_rle=encoded)

    def _crop(
        self,
        images_bgr: Sequence[UInt8[ndarray, "_ _ 3"]],
        frames: Sequence[UInt8[Tensor, "_ _ 3"]],
        chosen: Sequence[_Chosen],
        masks: Sequence[Bool[Tensor, "_ _ _"]],
    ) -> Float32[Tensor, "n 4 256 256"]:
        """Crops of all people: by OpenCV on the CPU, and the same bytes on a device from the frames there."""
        boxes = [c.bbox_padded_xyxy for c in chosen]
        if self._device.type != "cpu":
            return crop_people_on_device(frames, boxes, masks)
        cut = [crop_people(i, b, m.numpy()) for i, b, m in zip(images_bgr, boxes, masks, strict=True)]
        return torch.from_numpy(np.concatenate(cut))


def _made_up(num_people: int, device: torch.device) -> _Chosen:
    """Made-up people of the warm-up, who all fill the same part of the frame."""
    box = np.tile(np.array([200, 100, 400, 600], np.float32), (num_people, 1))
    masks = torch.zeros((num_people, *WARM_UP_SIZE), dtype=torch.bool, device=device)
    masks[:, 100:600, 200:400] = True
    return _Chosen(
        selection=Selection(rows=np.arange(num_people), detection_index=np.arange(num_people)),
        bbox_xyxy=box,
        bbox_padded_xyxy=pad_boxes(box),
        scores=np.ones(num_people, np.float32),
        paint_masks=lambda: masks,
    )


def _choose(found: Candidates, options: PerceptionOptions) -> _Chosen:
    """The candidates of a frame that pass the filters; their masks are painted when they are needed."""
    boxes, scores = found.bbox_xyxy.cpu().numpy(), found.scores.cpu().numpy()
    selection = select(boxes, scores, options)
    return _Chosen(
        selection=selection,
        bbox_xyxy=boxes[selection.rows],
        bbox_padded_xyxy=pad_boxes(boxes[selection.rows]),
        scores=scores[selection.rows],
        paint_masks=lambda: found.paint_masks(torch.from_numpy(selection.rows)),
    )


def _parts(sizes: list[int], most: int) -> list[slice]:
    """Cuts consecutive items into as few parts as possible whose sizes sum to `most` or that are one item."""
    parts, start, total = [], 0, 0
    for index, size in enumerate(sizes):
        if index > start and total + size > most:
            parts.append(slice(start, index))
            start, total = index, 0
        total += size
    return [*parts, slice(start, len(sizes))]


def _fetch(numbers: Float32[Tensor, "n 433"]) -> ndarray:
    """The numbers that leave the device, in one transfer: a row of `_COLUMNS` per person."""
    (packed,) = to_host(numbers)
    if not np.isfinite(packed).all():
        raise ModelOutputInvalid("the body regressor gave numbers that are not finite")
    rows: ndarray = packed.view(_COLUMNS)[:, 0]
    return rows


def _record(
    chosen: _Chosen, rows: ndarray, textures: Iterable[Tensor], mask_rle: tuple[str, ...] | None
) -> People:
    return People(
        detection_index=chosen.selection.detection_index,
        bbox_xyxy=chosen.bbox_xyxy,
        bbox_padded_xyxy=chosen.bbox_padded_xyxy,
        scores=chosen.scores,
        textures=tuple(UvTexture(texels=texels) for texels in textures),
        mask_rle=mask_rle,
        **{name: np.ascontiguousarray(rows[name]) for name in _COLUMNS.fields or ()},
    )

"""Detector, crops, HMR2 and texture composed into one device pass over a batch of frames."""

from collections.abc import Iterable, Sequence
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
from model_cache.networks.device import device_faults
from model_cache.networks.hmr2 import BodyEstimate, BodyEstimator
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
    masks: Bool[Tensor, "n h w"]


class NativePerception:
    """`Perception` with our own inference.

    Memory on the device: the frames of the batch, a mask of each kept person, one batch of crops with its
    activations, and 1 MB of texture per kept person.

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
        except torch.OutOfMemoryError as error:
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
        frame = torch.from_numpy(blank).to(self._device)
        self._detector.warm_up([frame] * num_frames)
        sizes = self._bodies.batch_sizes if self._device.type == "cuda" else self._bodies.batch_sizes[:1]
        options = PerceptionOptions(masks=True)
        for size in sizes:
            (people,) = self._measure([blank], [frame], [_made_up(size, self._device)], options)
        return people.textures or ()

    @torch.inference_mode()
    def _perceive_at_once(
        self,
        images_bgr: Sequence[UInt8[ndarray, "_ _ 3"]],
        frame_indices: Sequence[int],
        options: PerceptionOptions,
    ) -> list[People]:
        frames = [torch.from_numpy(image).to(self._device) for image in images_bgr]
        chosen = _choose(self._detector.detect(frames, frame_indices), options)
        # Crops go through in parts of whole frames, as many as fill a batch; a crowded frame is a part alone.
        people: list[People] = []
        for part in _parts([len(c.scores) for c in chosen], self._max_crops):
            people += self._measure(images_bgr[part], frames[part], chosen[part], options)
        return people

    def _measure(
        self,
        images_bgr: Sequence[UInt8[ndarray, "_ _ 3"]],
        frames: Sequence[UInt8[Tensor, "_ _ 3"]],
        chosen: Sequence[_Chosen],
        options: PerceptionOptions,
    ) -> list[People]:
        """Bodies and textures of the chosen people of some frames."""
        if not any(len(c.scores) for c in chosen):
            return [_record(c, np.zeros(0, _COLUMNS), (), options) for c in chosen]
        crops = self._crop(images_bgr, frames, chosen)
        bodies = self._bodies(crops[:, :3])
        textures = self._sampler.sample(crops, bodies.vertices + bodies.crop_cam_t[:, None])
        fetched = _fetch(bodies)
        people, end = [], 0
        for c in chosen:
            start, end = end, end + len(c.scores)
            people.append(_record(c, fetched[start:end], textures[start:end], options))
        return people

    def _crop(
        self,
        images_bgr: Sequence[UInt8[ndarray, "_ _ 3"]],
        frames: Sequence[UInt8[Tensor, "_ _ 3"]],
        chosen: Sequence[_Chosen],
    ) -> Float32[Tensor, "n 4 256 256"]:
        """Crops of all people: by OpenCV on the CPU, and the same bytes on a device from the frames there."""
        boxes = [c.bbox_padded_xyxy for c in chosen]
        masks = [c.masks for c in chosen]
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
        masks=masks,
    )


def _choose(found: list[Candidates], options: PerceptionOptions) -> list[_Chosen]:
    """Filters the candidates of all frames; waits for the device once."""
    table = torch.cat([torch.cat([c.bbox_xyxy, c.scores[:, None]], dim=1) for c in found]).cpu().numpy()
    ends = np.cumsum([len(c.scores) for c in found])
    chosen = []
    for candidates, rows in zip(found, np.split(table, ends[:-1]), strict=True):
        selection = select(rows[:, :4], rows[:, 4], options)
        kept = rows[selection.rows]
        chosen.append(
            _Chosen(
                selection=selection,
                bbox_xyxy=np.ascontiguousarray(kept[:, :4]),
                bbox_padded_xyxy=pad_boxes(kept[:, :4]),
                scores=np.ascontiguousarray(kept[:, 4]),
                masks=candidates.paint_masks(torch.from_numpy(selection.rows).to(candidates.scores.device)),
            )
        )
    return chosen


def _parts(sizes: list[int], most: int) -> list[slice]:
    """Cuts consecutive items into as few parts as possible whose sizes sum to `most` or that are one item."""
    parts, start, total = [], 0, 0
    for index, size in enumerate(sizes):
        if index > start and total + size > most:
            parts.append(slice(start, index))
            start, total = index, 0
        total += size
    return [*parts, slice(start, len(sizes))]


def _fetch(bodies: BodyEstimate) -> ndarray:
    """The numbers that leave the device, in one transfer: a row of `_COLUMNS` per person."""
    packed = torch.cat([getattr(bodies, name).flatten(1) for name in _FETCHED], dim=1).cpu().numpy()
    if not np.isfinite(packed).all():
        raise ModelOutputInvalid("the body regressor gave numbers that are not finite")
    rows: ndarray = packed.view(_COLUMNS)[:, 0]
    return rows


def _record(chosen: _Chosen, rows: ndarray, textures: Iterable[Tensor], options: PerceptionOptions) -> People:
    return People(
        detection_index=chosen.selection.detection_index,
        bbox_xyxy=chosen.bbox_xyxy,
        bbox_padded_xyxy=chosen.bbox_padded_xyxy,
        scores=chosen.scores,
        textures=tuple(UvTexture(texels=texels) for texels in textures),
        mask_rle=tuple(encode_mask(mask) for mask in chosen.masks.cpu().numpy()) if options.masks else None,
        **{name: np.ascontiguousarray(rows[name]) for name in _COLUMNS.fields or ()},
    )

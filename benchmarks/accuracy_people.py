"""The people of a clip: as the models find them, in true boxes, or made up in the mean pose."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from pycocotools import mask as coco_mask

from benchmarks.accuracy_clip import FoundFrame
from benchmarks.accuracy_pose import PlacedBody
from benchmarks.clip_truth import ClipTruth
from handler.camera import assumed_intrinsics, canvas_translation
from handler.job import TrackingOptions
from handler.people.perceive import place
from handler.records import FrameInfo, PeopleInFrame
from model_cache.interfaces import Perception, PerceptionOptions
from model_cache.networks.detector import Detections

# As docs/15-lite-models.md advises for small videos.
TRACKING = TrackingOptions(small_w=25, small_h=60, hungarian_th=200, max_age_track=125, predict="TP")
OPTIONS = PerceptionOptions(masks=True, small_w=TRACKING.small_w, small_h=TRACKING.small_h)
TRUE_OPTIONS = PerceptionOptions(masks=True, small_w=0, small_h=0)

Image = UInt8[ndarray, "h w 3"]


def read_clip(clip: Path, frames: range | None = None) -> Iterator[tuple[int, float, Image]]:
    """Frame number, seconds and picture of the chosen frames, or of all."""
    with av.open(str(clip)) as container:
        for index, picture in enumerate(container.decode(video=0)):
            if frames is not None and index >= frames.stop:
                return
            if frames is None or index in frames:
                yield index, float(picture.time or 0.0), picture.to_ndarray(format="bgr24")


def perceive(
    pictures: Iterator[tuple[int, float, Image]], perception: Perception, options: PerceptionOptions = OPTIONS
) -> list[PeopleInFrame]:
    """People of each picture; `source_index` is the frame's place in the truth. Keeps all their textures."""
    frames = []
    for number, (index, seconds, image) in enumerate(pictures):
        (people,) = perception.perceive([image], [index], options)
        height, width = image.shape[:2]
        info = FrameInfo(
            frame_index=number, source_index=index, pts=index, pts_seconds=seconds, width=width, height=height
        )
        frames.append(PeopleInFrame(info=info, people=place(people, width, height)))
    return frames


def found_frame(frame: PeopleInFrame) -> FoundFrame:
    """A frame's people as they are scored."""
    people, info = frame.people, frame.info
    size = [info.height, info.width]
    masks = [coco_mask.decode({"size": size, "counts": counts}) > 0 for counts in people.mask_rle or ()]
    camera = assumed_intrinsics(info.width, info.height)
    return FoundFrame(
        index=info.source_index,
        bbox_xyxy=people.bbox_xyxy.astype(np.float64),
        bodies=[
            PlacedBody(rotations=rotations, betas=betas, translation=place, camera=camera)
            for rotations, betas, place in zip(people.rotations, people.betas, people.cam_t, strict=True)
        ],
        masks=np.stack(masks) if masks else None,
    )


def true_detections(truth: ClipTruth, frame: int) -> Detections:
    """What a perfect detector says: the visible pixels of all who count, nobody else."""
    counts = truth.who_counts(frame)
    return Detections(
        bbox_xyxy=truth.bbox_xyxy[frame][counts],
        scores=np.ones(int(counts.sum()), np.float32),
        masks=truth.masks(frame)[counts],
    )


def true_perception(truth: ClipTruth, frames: Sequence[int]) -> Perception:
    """The lite models behind a perfect detector."""
    import torch

    from model_cache.lite.load import load_lite_body, load_lite_hmr2, read_uv_map
    from model_cache.networks.detector import ReplayDetector
    from model_cache.networks.hmr2 import BodyEstimator
    from model_cache.networks.texture import TextureSampler
    from model_cache.perception import NativePerception

    body, device = load_lite_body(), torch.device("cpu")
    return NativePerception(
        detector=ReplayDetector({frame: true_detections(truth, frame) for frame in frames}),
        bodies=BodyEstimator(load_lite_hmr2(1), body),
        sampler=TextureSampler(uv_map=read_uv_map(), faces=body.faces, device=device),
        device=device,
    )


def mean_people(truth: ClipTruth, frames: Sequence[int]) -> list[FoundFrame]:
    """Everybody who counts in the pose, shape and crop camera that HMR2's head starts from, in true boxes."""
    from model_cache.lite.load import load_lite_hmr2
    from model_cache.networks.crops import pad_boxes
    from model_cache.networks.smpl import rotation_from_6d

    head = load_lite_hmr2(1).head
    rotations, betas = rotation_from_6d(head.mean_pose.view(24, 6)).numpy(), head.mean_betas[0].numpy()
    height, width = truth.owners.shape[1:]
    camera = assumed_intrinsics(width, height)
    found = []
    for frame in frames:
        detections = true_detections(truth, frame)
        boxes = pad_boxes(detections.bbox_xyxy)
        places = canvas_translation(
            np.tile(head.mean_cam.numpy(), (len(boxes), 1)),
            (boxes[:, :2] + boxes[:, 2:]) / 2,
            (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0),
            width,
            height,
        )
        found.append(
            FoundFrame(
                index=frame,
                bbox_xyxy=detections.bbox_xyxy.astype(np.float64),
                bodies=[
                    PlacedBody(rotations=rotations, betas=betas, translation=place, camera=camera)
                    for place in places
                ],
            )
        )
    return found

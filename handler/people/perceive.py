"""Frames become measured people, a batch at a time; pixels end here."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import structlog

from handler.camera import canvas_translation, project_to_canvas
from handler.context import unstoppable
from handler.errors import ComputeError, ErrorCode
from handler.job import Options
from handler.records import Frame, PeopleInFrame, PlacedPeople, phalp_joints_3d
from model_cache.errors import DeviceOutOfMemory
from model_cache.interfaces import People, Perception, PerceptionOptions

MEASURED = ("bbox_xyxy", "scores", "rotations", "betas", "crop_cam", "joints_3d", "smpl_joints_3d")

log = structlog.get_logger(__name__)


def perception_options(options: Options) -> PerceptionOptions:
    """What a job's options mean for perception."""
    return PerceptionOptions(
        score_threshold=options.tracking.low_th_c,
        small_w=float(options.tracking.small_w),
        small_h=float(options.tracking.small_h),
        max_people=options.max_people,
        masks=options.masks,
    )


def perceive(
    frames: Iterable[Frame],
    perception: Perception,
    options: PerceptionOptions,
    *,
    batch_frames: int,
    clear_cache: Callable[[], None],
    clear_every_frames: int,
    check: Callable[[], None] = unstoppable,
) -> Iterator[list[PeopleInFrame]]:
    """The people of each frame, in batches, in order.

    Memory: one batch of frames. Its pixels are dropped before the batch is handed on, and then the
    device's unused memory is given back: after the batch in which `clear_every_frames` frames are full,
    so 1 means after every pass over the device; 0 means never. `check` is called before every pass.

    Raises:
        DeviceOutOfMemory: one frame alone does not fit, twice.
        DeviceFault: the device needs a new process.
        ComputeError: MODEL_OUTPUT_INVALID if a network gave numbers that are not finite.
    """
    source = iter(frames)
    num_since_clear = 0
    while batch := list(islice(source, batch_frames)):
        num_since_clear += len(batch)
        images = _people_in_images(batch, perception, options, clear_cache, check)
        people = [_people_in_frame(frame, image) for frame, image in zip(batch, images, strict=True)]
        del batch, images
        if clear_every_frames and num_since_clear >= clear_every_frames:
            clear_cache()
            num_since_clear = 0
        yield people
        del people


def place(people: People, width: int, height: int) -> PlacedPeople:
    """The people of one image of `width` x `height` pixels with their cameras on PHALP's canvas."""
    top_left, bottom_right = people.bbox_padded_xyxy[:, :2], people.bbox_padded_xyxy[:, 2:]
    center = (top_left + bottom_right) / 2
    scale = (bottom_right - top_left).max(axis=1, initial=0)
    cam_t = canvas_translation(people.crop_cam, center, scale, width, height)
    return PlacedPeople.extend(
        people,
        center_px=center,
        scale_px=scale,
        cam_t=cam_t,
        joints_2d=project_to_canvas(phalp_joints_3d(people), cam_t),
    )


def _people_in_images(
    frames: Sequence[Frame],
    perception: Perception,
    options: PerceptionOptions,
    clear_cache: Callable[[], None],
    check: Callable[[], None],
) -> list[People]:
    """One record per frame, in order.

    Perception halves a batch that does not fit, so what comes out as DeviceOutOfMemory is a single frame
    that did not; what the device's cache holds may have been in its way.
    """
    check()
    try:
        return perception.perceive(
            [frame.image_bgr for frame in frames], [frame.info.source_index for frame in frames], options
        )
    except DeviceOutOfMemory:
        log.warning("out of memory; trying each frame alone", num_frames=len(frames))
    images: list[People] = []
    for frame in frames:
        check()
        clear_cache()
        images += perception.perceive([frame.image_bgr], [frame.info.source_index], options)
    return images


def _people_in_frame(frame: Frame, image: People) -> PeopleInFrame:
    if not all(np.isfinite(getattr(image, name)).all() for name in MEASURED):
        raise ComputeError(
            ErrorCode.MODEL_OUTPUT_INVALID,
            f"a network gave numbers that are not finite in frame {frame.info.frame_index}",
        )
    return PeopleInFrame(info=frame.info, people=place(image, frame.info.width, frame.info.height))

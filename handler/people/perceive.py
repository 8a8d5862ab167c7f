"""Frames become measured people, a batch at a time; pixels end here. Knows nothing of tracks or networks."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import structlog

from handler.context import unstoppable
from handler.errors import ComputeError
from handler.job import Options
from handler.people.person import people_from_image
from handler.records import Frame, PeopleInFrame
from model_cache.errors import DeviceOutOfMemory
from model_cache.interfaces import PeopleInImage, Perception, PerceptionOptions

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
    frames: Iterable[tuple[Frame, bool]],
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
    so 1 means after every pass over the device.

    Args:
        frames: upright frames, each with whether it begins a new shot.
        perception: the loaded models.
        options: of this job.
        batch_frames: frames per pass over the device.
        clear_cache: gives unused device memory back.
        clear_every_frames: how often; 0 for never.
        check: called before every pass over the device; what it raises comes out.

    Raises:
        DeviceOutOfMemory: one frame alone does not fit, twice.
        DeviceFault: the device needs a new process.
        ComputeError: MODEL_OUTPUT_INVALID if a network gave numbers that are not finite.
    """
    source = iter(frames)
    num_since_clear = 0
    while batch := _take(source, batch_frames):
        num_since_clear += len(batch)
        images = _people_in_images([frame for frame, _ in batch], perception, options, clear_cache, check)
        people = [
            _people_in_frame(frame, shot, image) for (frame, shot), image in zip(batch, images, strict=True)
        ]
        del batch, images
        if clear_every_frames and num_since_clear >= clear_every_frames:
            clear_cache()
            num_since_clear = 0
        yield people
        del people


def _people_in_images(
    frames: Sequence[Frame],
    perception: Perception,
    options: PerceptionOptions,
    clear_cache: Callable[[], None],
    check: Callable[[], None],
) -> list[PeopleInImage]:
    """One record per frame, in order.

    Perception halves a batch that does not fit, so what comes out as DeviceOutOfMemory is a single frame
    that did not; what the device's cache holds may have been in its way.
    """
    check()
    try:
        return perception.perceive(
            [frame.image_bgr for frame in frames], [frame.source_index for frame in frames], options
        )
    except DeviceOutOfMemory:
        log.warning("out of memory; trying each frame alone", num_frames=len(frames))
    images: list[PeopleInImage] = []
    for frame in frames:
        check()
        clear_cache()
        images += perception.perceive([frame.image_bgr], [frame.source_index], options)
    return images


def _take(source: Iterator[tuple[Frame, bool]], num: int) -> list[tuple[Frame, bool]]:
    return [item for _, item in zip(range(num), source, strict=False)]


def _people_in_frame(frame: Frame, shot: bool, image: PeopleInImage) -> PeopleInFrame:
    height, width = frame.image_bgr.shape[:2]
    measured = (image.bbox_xyxy, image.scores, image.global_orient, image.body_pose, image.betas,
                image.crop_cam, image.joints_3d, image.smpl_joints_3d)  # fmt: skip
    if not all(np.isfinite(array).all() for array in measured):
        raise ComputeError(
            "MODEL_OUTPUT_INVALID", f"a network gave numbers that are not finite in frame {frame.frame_index}"
        )
    return PeopleInFrame(
        frame_index=frame.frame_index,
        source_index=frame.source_index,
        pts=frame.pts,
        pts_seconds=frame.pts_seconds,
        width=width,
        height=height,
        people=people_from_image(image, width, height),
        shot=shot,
        is_corrupt=frame.is_corrupt,
    )

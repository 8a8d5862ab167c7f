"""The checks of a worker before its first job: each returns, or raises Unfit."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from handler.settings import BucketSettings, Settings
from model_cache.interfaces import Models, PerceptionOptions

CLIP_FRAMES = 3
CLIP_SIZE = (64, 48)  # width, height
GREY_TOLERANCE = 12  # lossy coding of a uniform picture


class Unfit(Exception):
    """This worker must not take jobs."""


def checks(models: Models, settings: Settings) -> list[Callable[[], None]]:
    """The checks of a worker, in the order in which they run; the platform shows their names."""

    def models_answer() -> None:
        check_models(models)

    def video_decodes() -> None:
        check_decoding(settings.worker.scratch)

    def scratch_has_room() -> None:
        check_folder(settings.worker.scratch, settings.intake.reserve_disk_bytes)

    def bucket_is_complete() -> None:
        check_bucket(settings.bucket)

    return [models_answer, scratch_has_room, video_decodes, bucket_is_complete]


def check_models(models: Models) -> None:
    """Every network is loaded and answers with finite numbers."""
    empty = np.zeros((96, 96, 3), np.uint8)
    images = models.perception.perceive([empty, empty], [0, 1], PerceptionOptions())
    if len(images) != 2:
        raise Unfit("perception returned fewer images than it was given")
    eye = np.broadcast_to(np.eye(3, dtype=np.float32), (1, 24, 3, 3))
    joints, _ = models.body.joints(eye[:, :1], eye[:, 1:], np.zeros((1, 10), np.float32))
    if not np.isfinite(joints).all():
        raise Unfit("the body model returned numbers that are not finite")


def check_folder(folder: Path, reserve_bytes: int, name: str = "the scratch folder") -> None:
    """Files can be written, and there is more room than the reserve; messages call the folder by `name`."""
    try:
        if folder.exists() and not folder.is_dir():
            raise Unfit(f"{name} is not a folder")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x" * 4096)
            file.flush()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise Unfit(f"{name} cannot be written: {error.strerror}") from error
    if free <= reserve_bytes:
        raise Unfit(f"{name} has {free >> 20} MiB free; it needs more than {reserve_bytes >> 20} MiB")


def check_bucket(settings: BucketSettings) -> None:
    """The bucket's settings are complete, or absent (then each job brings its own upload URLs)."""
    needed = {
        "BUCKET_NAME": settings.name,
        "BUCKET_ACCESS_KEY_ID": settings.access_key_id,
        "BUCKET_SECRET_ACCESS_KEY": settings.secret_access_key,
    }
    missing = [name for name, value in needed.items() if not value]
    if missing and (len(missing) < len(needed) or settings.endpoint_url):
        raise Unfit(f"set {', '.join(missing)} as well, or no BUCKET_ variable at all")


def check_decoding(folder: Path) -> None:
    """A clip of a few uniform frames can be encoded and decoded."""
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
        clip = Path(workdir) / "check.mp4"
        greys = [40 + 60 * index for index in range(CLIP_FRAMES)]
        write_clip(clip, greys)
        with av.open(str(clip)) as container:
            seen = [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]
    if len(seen) != CLIP_FRAMES or not np.allclose(seen, greys, atol=GREY_TOLERANCE):
        raise Unfit("a test clip was decoded to other pictures than were encoded")


def write_clip(path: Path, greys: list[int]) -> None:
    """One uniform H.264 frame per grey level."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = CLIP_SIZE
        stream.pix_fmt = "yuv420p"
        for grey in greys:
            picture = np.full((CLIP_SIZE[1], CLIP_SIZE[0], 3), grey, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())

"""Tracked frames to files on disk, one line after the other."""

import gzip
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal

import orjson

from handler.camera import Intrinsics, assumed_intrinsics, known_intrinsics
from handler.context import Check, unstoppable
from handler.job import CameraIntrinsics, Options
from handler.records import TrackedFrame, Warn
from handler.results.document import Camera, Conventions, FramesDocument, Quality, TrackInfo
from handler.results.encode import frame_line
from handler.results.people_filter import OnePerson, Presence, with_people
from handler.results.statistics import FrameSpan, Statistics
from handler.transfer.errors import disk_full_is_coded
from model_cache.interfaces import BodyModel

FRAMES_NAME = "frames.jsonl.gz"
DOCUMENT_NAME = "frames.json"
GZIP_LEVEL = 1  # four times faster than 6 for a quarter more bytes
BUFFER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written, and the numbers about it: the longest identities by id, the first frame's camera."""

    frames_path: Path
    span: FrameSpan
    quality: Quality
    tracks: tuple[TrackInfo, ...]
    camera: Camera
    warnings: tuple[Warn, ...]


def write(
    frames: Iterable[TrackedFrame],
    *,
    options: Options,
    body: BodyModel,
    into: Path,
    check: Check = unstoppable,
) -> Written:
    """Write `frames.jsonl.gz`: one line per frame, in order, without gaps.

    `check` is called before every line, also where frames come from the disk; what it raises comes out.
    Memory: one frame, and the statistics of the people alive.

    Raises:
        ComputeError: MODEL_OUTPUT_INVALID, a number is not finite.
        WorkerError: DISK_FULL.
    """
    presence = Presence(options.tracking.n_init)
    frames = presence.note(frames)
    one = OnePerson(options.person, waiting=into / "waiting.pickle") if options.person else None
    if one is not None:
        frames = one.keep(frames)
    if not options.include_predicted:
        frames = (with_people(frame, frame.people.measured) for frame in frames)
    tracking = options.tracking
    statistics = Statistics(forget_frames=tracking.max_age_track + tracking.n_init)
    path = into / FRAMES_NAME
    first_size: tuple[int, int] | None = None
    with disk_full_is_coded("write"), _gzip_writer(path) as file:
        for expected, frame in enumerate(frames):
            check()
            info = frame.info
            if info.frame_index != expected:
                raise RuntimeError(f"frame {expected} is missing: the tracker gave {info.frame_index}")
            first_size = first_size or (info.width, info.height)
            camera = intrinsics_of(options.camera, info.width, info.height)
            line = frame_line(
                frame, body, camera, profile=options.profile, masks=options.masks, first_size=first_size
            )
            file.write(line)
            statistics.add(frame)
    quality, tracks = statistics.finish()
    source: Literal["assumed", "user"] = "user" if options.camera else "assumed"
    return Written(
        frames_path=path,
        span=statistics.span(),
        quality=quality,
        tracks=tracks,
        camera=Camera(**asdict(intrinsics_of(options.camera, *(first_size or (1, 1)))), source=source),
        warnings=(*presence.warnings(), *(one.warnings() if one else ())),
    )


def write_document(
    written: Written, *, options: Options, job_id: str, into: Path, check: Check = unstoppable
) -> Path:
    """Write `frames.json`: the same frames as one JSON document, with a `check()` before every line.

    Memory: one line.

    Raises:
        WorkerError: DISK_FULL.
    """
    path = into / DOCUMENT_NAME
    conventions = Conventions.of(options.profile)
    empty = FramesDocument(job_id=job_id, conventions=conventions, camera=written.camera, frames=())
    head = empty.model_dump(mode="json", by_alias=True, exclude={"frames"})
    with disk_full_is_coded("write"), path.open("wb", buffering=BUFFER_BYTES) as file:
        file.write(orjson.dumps(head)[:-1] + b',"frames":[')
        for i, line in enumerate(read_lines(written.frames_path)):
            check()
            file.write(b",\n" if i else b"\n")
            file.write(line)
        file.write(b"\n]}\n")
    return path


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a `frames.jsonl.gz`, without their newlines. Memory: one line."""
    with gzip.open(path, "rb") as file:
        for line in file:
            yield line.rstrip(b"\n")


def intrinsics_of(known: CameraIntrinsics | None, width: int, height: int) -> Intrinsics:
    """The camera of a frame of this size: the caller's, or the one PHALP assumes."""
    if known is None:
        return assumed_intrinsics(width, height)
    return known_intrinsics(width, height, known.fx, known.fy, known.cx, known.cy)


@contextmanager
def _gzip_writer(path: Path) -> Iterator[IO[bytes]]:
    # No time and no name in the header: the same frames give the same bytes.
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=GZIP_LEVEL, fileobj=raw, mtime=0) as packed,
        io.BufferedWriter(packed, buffer_size=BUFFER_BYTES) as file,
    ):
        yield file

"""Tracked frames made by code: bodies walk across the picture, now and then one is lost."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from handler.camera import canvas_translation, project_to_canvas
from handler.records import (
    FrameInfo,
    PlacedPeople,
    TrackedFrame,
    TrackedPeople,
    VideoFacts,
    location_vectors,
    pose_vectors,
)

SIZE = (640, 480)
UPRIGHT = np.diag([1, -1, -1]).astype(np.float32)  # a body that faces the camera: y up becomes y down


def make_person(
    seed: int = 0, *, center: tuple[float, float] = (300, 240), height: float = 200, **more
) -> PlacedPeople:
    """One measured person of random pose and shape, its cameras consistent with its box."""
    rng = np.random.default_rng(seed)
    pose = Rotation.from_rotvec(rng.normal(0, 0.2, (23, 3))).as_matrix().astype(np.float32)
    turn = Rotation.from_euler("y", rng.uniform(-1, 1)).as_matrix()
    crop_cam = np.array([[0.9, 0.02, -0.05]], np.float32)
    middle, side = np.array([center], np.float32), np.array([height], np.float32)
    cam_t = canvas_translation(crop_cam, middle, side, *SIZE)
    joints = rng.uniform(-0.9, 0.9, (1, 44, 3)).astype(np.float32)
    half = np.array([height * 0.2, height * 0.45], np.float32)
    fields = {
        "detection_index": np.array([seed]),
        "bbox_xyxy": np.concatenate([middle - half, middle + half], axis=1),
        "bbox_padded_xyxy": np.concatenate([middle - side / 2, middle + side / 2], axis=1),
        "scores": np.array([0.9], np.float32),
        "rotations": np.concatenate([(turn @ UPRIGHT).astype(np.float32)[None], pose])[None],
        "betas": rng.normal(0, 0.5, (1, 10)).astype(np.float32),
        "crop_cam": crop_cam,
        "center_px": middle,
        "scale_px": side,
        "cam_t": cam_t,
        "joints_3d": joints,
        "joints_2d": project_to_canvas(np.concatenate([joints, np.zeros((1, 1, 3))], axis=1), cam_t),
        "smpl_joints_3d": rng.uniform(-0.9, 0.9, (1, 24, 3)).astype(np.float32),
        "textures": None,
    }
    return PlacedPeople(**fields | more)


def tracked(track_id: int, person: PlacedPeople) -> TrackedPeople:
    """The person, measured."""
    return _identity(track_id, person, person, 0)


def predicted(
    track_id: int, person: PlacedPeople, *, lost: int = 1, expected: PlacedPeople | None = None
) -> TrackedPeople:
    """The person, lost; expected where (and as) another one stands."""
    return _identity(track_id, person, expected or person, lost)


def _identity(track_id: int, person: PlacedPeople, expected: PlacedPeople, lost: int) -> TrackedPeople:
    return TrackedPeople.extend(
        person,
        track_ids=np.array([track_id]),
        frames_since_seen=np.array([lost]),
        poses=pose_vectors(expected),
        locations=location_vectors(expected),
    )


def make_info(index: int, **more) -> FrameInfo:
    """Which frame of a video of 30 frames/s."""
    fields = {
        "frame_index": index,
        "source_index": index,
        "pts": index * 512,
        "pts_seconds": index * 512 / 15360,
        "width": SIZE[0],
        "height": SIZE[1],
    }
    return FrameInfo(**fields | more)


def make_frame(index: int, *people: TrackedPeople, num_detected: int | None = None, **more) -> TrackedFrame:
    """A frame at 30 frames/s with these people."""
    together = TrackedPeople.concat(people or [tracked(1, make_person()).take([])])
    measured = int(together.measured.sum())
    return TrackedFrame(
        info=make_info(index, **more),
        people=together,
        num_detected=measured if num_detected is None else num_detected,
    )


def walk(num_frames: int, *, num_people: int = 2, lose_every: int = 0) -> Iterator[TrackedFrame]:
    """People crossing the picture; with `lose_every`, person 1 is lost in every so many-th frame."""
    last: dict[int, PlacedPeople] = {}
    for index in range(num_frames):
        people = []
        for i in range(num_people):
            track_id = i + 1
            center = (100 + 60 * i + index % 300, 200 + 10 * i)
            person = make_person(index % 50 + 100 * i, center=center)
            if lose_every and i == 0 and index % lose_every == lose_every - 1 and i in last:
                people.append(predicted(track_id, last[i], expected=person))
            else:
                last[i] = person
                people.append(tracked(track_id, person))
        yield make_frame(index, *people)


def make_facts(path: Path = Path("clip.mp4"), **more) -> VideoFacts:
    """The facts of a 640 x 480 clip."""
    fields = {
        "path": path,
        "container": "mov,mp4,m4a,3gp,3g2,mj2",
        "codec": "h264",
        "width": SIZE[0],
        "height": SIZE[1],
        "rotation_degrees": 0,
        "time_base": Fraction(1, 15360),
        "average_fps": 30.0,
        "duration_seconds": 2.0,
        "num_frames_estimate": 60,
        "size_bytes": 12345,
        "sha256": "0" * 64,
        "is_hdr": False,
    }
    return VideoFacts(**fields | more)

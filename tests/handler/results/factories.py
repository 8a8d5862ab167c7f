"""Tracked frames made by code: bodies walk across the picture, now and then one is lost."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from handler.camera import canvas_translation, project_to_canvas
from handler.records import Person, Prediction, TrackedFrame, TrackedPerson, VideoFacts

SIZE = (640, 480)
UPRIGHT = np.diag([1, -1, -1]).astype(np.float32)  # a body that faces the camera: y up becomes y down


def make_person(
    seed: int = 0, *, center: tuple[float, float] = (300, 240), height: float = 200, **more
) -> Person:
    """A measured person of random pose and shape, its cameras consistent with its box."""
    rng = np.random.default_rng(seed)
    pose = Rotation.from_rotvec(rng.normal(0, 0.2, (23, 3))).as_matrix().astype(np.float32)
    turn = Rotation.from_euler("y", rng.uniform(-1, 1)).as_matrix()
    crop_cam = np.array([[0.9, 0.02, -0.05]], np.float32)
    middle = np.array([center], np.float32)
    width_px, height_px = SIZE
    cam_t = canvas_translation(crop_cam, middle, np.array([height], np.float32), width_px, height_px)[0]
    joints = np.concatenate([rng.uniform(-0.9, 0.9, (44, 3)), np.zeros((1, 3))]).astype(np.float32)
    half = np.array([height * 0.2, height * 0.45], np.float32)
    fields = {
        "detection_index": seed,
        "bbox_xyxy": np.concatenate([middle[0] - half, middle[0] + half]).astype(np.float32),
        "score": 0.9,
        "global_orient": (turn @ UPRIGHT).astype(np.float32)[None],
        "body_pose": pose,
        "betas": rng.normal(0, 0.5, 10).astype(np.float32),
        "crop_cam": crop_cam[0],
        "center_px": middle[0],
        "scale_px": float(height),
        "cam_t": cam_t,
        "joints_3d": joints,
        "joints_2d": project_to_canvas(joints[None], cam_t[None])[0],
        "smpl_joints_3d": rng.uniform(-0.9, 0.9, (24, 3)).astype(np.float32),
    }
    return Person(**fields | more)


def tracked(track_id: int, person: Person) -> TrackedPerson:
    """The person, measured."""
    return TrackedPerson(track_id=track_id, state="tracked", frames_since_seen=0, person=person)


def predicted(
    track_id: int, person: Person, *, lost: int = 1, expected: Person | None = None
) -> TrackedPerson:
    """The person, lost; expected where (and as) another one stands."""
    expected = expected or person
    location = expected.location_vector.copy()
    location[88:90] = expected.joints_2d[44]
    return TrackedPerson(
        track_id=track_id,
        state="predicted",
        frames_since_seen=lost,
        person=person,
        prediction=Prediction(pose_vector=expected.pose_vector, location_vector=location),
    )


def make_frame(index: int, *people: TrackedPerson, **more) -> TrackedFrame:
    """A frame at 30 frames/s with these people."""
    fields = {
        "frame_index": index,
        "source_index": index,
        "pts": index * 512,
        "pts_seconds": index * 512 / 15360,
        "width": SIZE[0],
        "height": SIZE[1],
        "people": people,
        "num_detected": sum(person.state == "tracked" for person in people),
    }
    return TrackedFrame(**fields | more)


def walk(num_frames: int, *, num_people: int = 2, lose_every: int = 0) -> Iterator[TrackedFrame]:
    """People crossing the picture; with `lose_every`, person 1 is lost in every so many-th frame."""
    last: dict[int, Person] = {}
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
        "stream_index": 0,
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

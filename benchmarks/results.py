"""Speed of writing results and of drawing the overlay, against the simplest correct version of each.

python -m benchmarks.results [--frames 300]
"""

import argparse
import gzip
import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks.timing import best_ms
from handler.camera import assumed_intrinsics, full_image_translation, project
from handler.job import Options
from handler.records import TrackedFrame
from handler.results.drawing import colour_of
from handler.results.painter import AMBIENT, DIFFUSE, TO_LIGHT, paint_bodies
from handler.results.write import write
from tests.fakes import FakeBody
from tests.handler.results.factories import SIZE, UPRIGHT, walk
from tests.handler.results.free_body import FreeBody

REPEATS = 3


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300, help="frames per run")
    frames = parser.parse_args().frames
    print("Writing frames.jsonl.gz (one thread)")
    print(f"{'':<24}{'person-frames/s':>16}{'bytes each':>12}{'times stdlib':>14}")
    for num_people in (1, 5):
        _writing(list(walk(frames, num_people=num_people)), num_people)
    print("\nOverlay, body meshes of 13,776 faces on 1920x1080 (milliseconds per person, one thread)")
    print(f"{'':<24}{'simplest':>10}{'ours':>10}{'ratio':>8}")
    for num_people, height in ((1, 900), (1, 250), (5, 500)):
        simplest, ours = _overlay(num_people, height)
        label = f"{num_people} x {height} px tall"
        print(f"{label:<24}{simplest:>10.1f}{ours:>10.1f}{simplest / ours:>8.1f}")


def _writing(tracked: list[TrackedFrame], num_people: int) -> None:
    num = len(tracked) * num_people
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder)
        plain = _rate(lambda: write_plainly(tracked, into), num)
        _row(f"stdlib, {num_people} people", plain, into, num, 1.0)
        for profile in ("params", "standard", "full"):
            options = Options(profile=profile)
            write_all = partial(write, tracked, options=options, body=FakeBody(), into=into)
            rate = _rate(write_all, num)
            _row(f"{profile}, {num_people} people", rate, into, num, rate / plain)


def write_plainly(frames: Sequence[TrackedFrame], into: Path) -> None:
    """Profile `standard` with the standard library, person by person."""
    camera = assumed_intrinsics(*SIZE)
    with gzip.open(into / "frames.jsonl.gz", "wt") as file:
        for frame in frames:
            info, people = frame.info, []
            for row, track_id in enumerate(frame.people.track_ids.tolist()):
                person = frame.people.take([row])
                transl = full_image_translation(person.cam_t, info.width, info.height, camera)[0]
                joints = person.smpl_joints_3d[0] + transl
                people.append(
                    {
                        "track_id": track_id,
                        "state": "tracked" if person.measured[0] else "predicted",
                        "score": round(float(person.scores[0]), 4),
                        "bbox_xyxy": [round(float(x), 1) for x in person.bbox_xyxy[0]],
                        "smpl": {
                            "global_orient": _vectors(person.global_orient[0]),
                            "body_pose": _vectors(person.body_pose[0]),
                            "betas": [round(float(x), 4) for x in person.betas[0]],
                            "transl": [round(float(x), 4) for x in transl],
                        },
                        "joints_3d": [round(float(x), 4) for x in joints.ravel()],
                        "joints_2d": [round(float(x), 1) for x in project(joints, camera).ravel()],
                    }
                )
            line = {"frame": info.frame_index, "time_s": round(info.pts_seconds, 6), "people": people}
            file.write(json.dumps(line, allow_nan=False) + "\n")


def _vectors(matrices: np.ndarray) -> list[float]:
    return [round(float(x), 4) for x in Rotation.from_matrix(matrices).as_rotvec().ravel()]


def paint_plainly(image: np.ndarray, bodies: np.ndarray, faces: np.ndarray, colours: list) -> None:
    """Every face of every body, far to near, blended over the whole picture."""
    camera = assumed_intrinsics(image.shape[1], image.shape[0])
    for body, colour in zip(bodies, colours, strict=True):
        layer = image.copy()
        corners = body[faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
        shades = AMBIENT + DIFFUSE * np.clip(normals @ TO_LIGHT, 0, None)
        points = np.round(project(corners, camera)).astype(np.int32)
        for face in np.argsort(-corners[..., 2].mean(axis=1)):
            cv2.fillConvexPoly(layer, points[face], [float(c * shades[face]) for c in colour])
        cv2.addWeighted(layer, 0.8, image, 0.2, 0, image)


def _overlay(num_people: int, height: int) -> tuple[float, float]:
    """Milliseconds per person: (simplest, ours)."""
    body = FreeBody()
    camera = assumed_intrinsics(1920, 1080)
    rng = np.random.default_rng(0)
    pose = Rotation.from_rotvec(rng.normal(0, 0.2, (num_people * 23, 3))).as_matrix()
    pose = pose.astype(np.float32).reshape(num_people, 23, 3, 3)
    orient = np.broadcast_to(UPRIGHT, (num_people, 1, 3, 3))
    vertices = body.vertices(orient, pose, rng.normal(0, 0.5, (num_people, 10)).astype(np.float32))
    depth = camera.fx * 1.8 / height
    places = (np.arange(num_people) + 0.5) / num_people - 0.5
    shift = np.stack([places * 1600 * depth / camera.fx, 0 * places, np.full(num_people, depth)], axis=1)
    vertices = vertices + shift[:, None].astype(np.float32)
    image = np.full((1080, 1920, 3), 90, np.uint8)
    colours = [colour_of(i) for i in range(num_people)]
    opacity = np.full(num_people, 0.8, np.float32)
    inks = np.array(colours, np.uint8)
    simplest = best_ms(lambda: paint_plainly(image.copy(), vertices, body.faces, colours), repeats=REPEATS)
    ours = best_ms(
        lambda: paint_bodies(image.copy(), vertices, body.faces, camera, inks, opacity), repeats=REPEATS
    )
    return simplest / num_people, ours / num_people


def _rate(work: Callable[[], object], num: int) -> float:
    return num / best_ms(work, repeats=REPEATS) * 1e3


def _row(label: str, rate: float, folder: Path, num: int, ratio: float) -> None:
    size = (folder / "frames.jsonl.gz").stat().st_size / num
    print(f"{label:<24}{rate:>16,.0f}{size:>12,.0f}{ratio:>14.1f}")


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main()

"""People to track: of small worlds, and the golden detections with textures that replay their distances."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from handler.records import PeopleInFrame, PlacedPeople
from tests.fakes import FakeTexture
from tests.handler.results.factories import make_info

WIDTH, HEIGHT = 1280, 720


@dataclass(frozen=True)
class GoldenTexture:
    """A handle: which frame and detection, and the uv map sampled at 16 x 16."""

    frame: int
    uv: ndarray


class GoldenTextures:
    """The golden file's distances, and mixing on its blocky 16 x 16 maps; counts the pairs asked for."""

    def __init__(self, tables: dict[int, ndarray]) -> None:
        self.tables = tables
        self.pairs_asked = 0

    def distance(self, tracks: Sequence[Any], detections: Sequence[Any], pairs: ndarray) -> ndarray:
        table = self.tables[detections[0].frame]
        assert table.shape == (len(tracks), len(detections))
        self.pairs_asked += len(pairs)
        return table[pairs[:, 0], pairs[:, 1]]

    def mix(
        self, track: GoldenTexture, detection: GoldenTexture, score: float, *, alpha: float = 0.1
    ) -> GoldenTexture:
        weight = alpha * score**2
        old, new = track.uv[3] == 1, detection.uv[3] == 1
        uv = np.where(old, track.uv, 0.0)
        uv = np.where(new, detection.uv, uv)
        uv = np.where(old & new, (1 - weight) * track.uv + weight * detection.uv, uv)
        uv[3] = np.where(old | new, 1, -1)
        return GoldenTexture(detection.frame, uv)

    def copy(self, texture: GoldenTexture) -> GoldenTexture:
        return GoldenTexture(texture.frame, texture.uv.copy())


def person_of(
    pose: ndarray,
    location: ndarray,
    *,
    bbox_xywh: ndarray,
    score: float,
    index: int,
    texture: object,
    **more: Any,
) -> PlacedPeople:
    """One person, whose pose and location vectors are the given ones."""
    x, y, w, h = bbox_xywh
    fields: dict[str, Any] = {
        "detection_index": index,
        "bbox_xyxy": [x, y, x + w, y + h],
        "bbox_padded_xyxy": [x, y, x + w, y + h],
        "scores": score,
        "rotations": pose[:216].reshape(24, 3, 3),
        "betas": pose[216:226],
        "crop_cam": [1, 0, 0],
        "center_px": [x + w / 2, y + h / 2],
        "scale_px": max(w, h),
        "cam_t": location[90:93],
        "joints_3d": np.zeros((44, 3)),
        "joints_2d": location[:90].reshape(45, 2),
        "smpl_joints_3d": np.zeros((24, 3)),
    }
    columns = {name: np.array([value], np.float32) for name, value in (fields | more).items()}
    columns["detection_index"] = columns["detection_index"].astype(np.int64)
    return PlacedPeople(textures=(texture,), **columns)


def frame_of(
    index: int,
    people: Sequence[PlacedPeople],
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
    shot: bool = False,
) -> PeopleInFrame:
    """A frame with the given people."""
    somebody = person_of(np.zeros(229), np.zeros(99), bbox_xywh=np.ones(4), score=1, index=0, texture=None)
    info = make_info(index, width=width, height=height, shot=shot)
    return PeopleInFrame(info=info, people=PlacedPeople.concat([somebody.take([]), *people]))


def person(
    identity: int, time: int, *, x: float | None = None, depth: float = 60.0, index: int = 0
) -> PlacedPeople:
    """Pose and colour tell who, `betas[0]` the frame; `x` is 0 to 1 on the canvas, `depth` in metres."""
    rng = np.random.default_rng(identity)
    pose = rng.normal(0, 0.3, 229).astype(np.float32)
    pose[216] = time / 1e4
    x = 0.1 + 0.15 * identity if x is None else x
    location = np.full(99, 0.5, np.float32)
    location[88] = x
    location[90:] = [(x - 0.5) * depth * 256 / 5000, 0, depth] * 3
    return person_of(
        pose,
        location,
        bbox_xywh=np.array([WIDTH * x - 40, 100, 80, 400]),
        score=0.9,
        index=index,
        texture=FakeTexture(str(identity)),
    )


def times_of(people: PlacedPeople) -> list[int]:
    """The frames in which people were measured."""
    return [round(beta * 1e4) for beta in people.betas[:, 0].tolist()]


def world(present: Sequence[Sequence[int]], shots: Sequence[int] = ()) -> Iterator[PeopleInFrame]:
    """Frames in which the given people stand still, each in a place of its own."""
    for time, identities in enumerate(present):
        people = [person(identity, time, index=index) for index, identity in enumerate(identities)]
        yield frame_of(time, people, shot=time in shots)


def golden_frames(data: dict[str, ndarray]) -> Iterator[PeopleInFrame]:
    """The frames of tracker.npz and its siblings; `detection_index` is the row of det_*."""
    height, width = data["image_size_hw"].tolist()
    for index in range(int(data["n_frames"])):
        rows = np.flatnonzero(data["det_frame"] == index)
        people = [
            person_of(
                data["det_pose"][row],
                data["det_loca"][row],
                bbox_xywh=data["det_bbox"][row],
                score=data["det_conf"][row],
                index=int(row),
                texture=GoldenTexture(index, data["det_uv16"][row].astype(np.float64)),
                center_px=data["det_center"][row],
                scale_px=float(data["det_scale"][row].max()),
            )
            for row in rows
        ]
        yield frame_of(index, people, width=width, height=height, shot=index in data["shot_frames"])


def golden_textures(data: dict[str, ndarray]) -> GoldenTextures:
    """The texture model of a golden sequence."""
    frames = range(int(data["n_frames"]))
    return GoldenTextures({index: data[f"t{index:03d}_r_texture"] for index in frames})

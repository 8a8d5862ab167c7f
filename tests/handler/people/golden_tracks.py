"""The golden detections as a stream of people, and textures that replay the golden distances."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from handler.records import PeopleInFrame, Person


@dataclass(frozen=True)
class GoldenTexture:
    """A handle: which frame and detection, and the uv map sampled at 16 x 16."""

    frame: int
    uv: ndarray


class GoldenTextures:
    """Distances read from the golden file; mixing computed on the 16 x 16 maps, on which they are blocky.

    Counts the pairs it was asked for, to show the pruning.
    """

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
) -> Person:
    """The person whose pose and location vectors are the given ones."""
    x, y, w, h = bbox_xywh
    fields: dict[str, Any] = {
        "detection_index": index,
        "bbox_xyxy": np.array([x, y, x + w, y + h], np.float32),
        "score": float(score),
        "global_orient": pose[:9].reshape(1, 3, 3),
        "body_pose": pose[9:216].reshape(23, 3, 3),
        "betas": pose[216:226],
        "crop_cam": np.array([1, 0, 0], np.float32),
        "center_px": np.array([x + w / 2, y + h / 2], np.float32),
        "scale_px": float(max(w, h)),
        "cam_t": location[90:93],
        "joints_3d": np.zeros((45, 3), np.float32),
        "joints_2d": location[:90].reshape(45, 2),
        "smpl_joints_3d": np.zeros((24, 3), np.float32),
        "texture": texture,
    }
    return Person(**(fields | more))


def frame_of(
    index: int, people: Sequence[Person], *, width: int, height: int, shot: bool = False
) -> PeopleInFrame:
    """A frame with the given people."""
    return PeopleInFrame(
        frame_index=index,
        source_index=index,
        pts=index * 512,
        pts_seconds=index / 30,
        width=width,
        height=height,
        people=tuple(people),
        shot=shot,
    )


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

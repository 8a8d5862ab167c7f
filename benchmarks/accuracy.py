"""People against the truth of synthetic clips: `python -m benchmarks.accuracy [CLIP.mp4 ...] [--seeds 101]`.

Prints detection, mask, pose and identity scores of the lite models, with simpler trackers beside PHALP's.
Clips of seeds are drawn first, about a minute each; without arguments the shipped clip is used.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray
from pycocotools import mask as coco_mask

from benchmarks import accuracy_scores as scores
from benchmarks.clip_truth import ClipTruth, read_truth
from handler.camera import assumed_intrinsics, project
from handler.job import TrackingOptions
from handler.people.person import people_from_image
from handler.people.track import track
from handler.records import PeopleInFrame, Person
from model_cache.cache import load
from model_cache.interfaces import Models, PerceptionOptions, Texture, TextureModel
from model_cache.settings import ModelSettings

SHIPPED = Path(__file__).parent.parent / "examples" / "four_people.mp4"
LSP_14 = slice(25, 39)  # of HMR2's 44 joints
# PHALP's smallest box (50 x 100) suits large videos; in 640 x 360 people seen from the side are narrower.
OPTIONS = PerceptionOptions(masks=True, small_w=25, small_h=60)
FOUND = 0.5  # least IoU of masks (detection) or boxes (identity)


@dataclass
class Table:
    """Sums behind one clip's row."""

    masks: list[float] = field(default_factory=list)
    mpjpe: list[float] = field(default_factory=list)
    mpjpe_viewed: list[float] = field(default_factory=list)
    pa_mpjpe: list[float] = field(default_factory=list)
    pixels: list[float] = field(default_factory=list)
    expected: int = 0
    hits: int = 0
    false: int = 0


def main() -> None:
    """Print a row per clip and one per tracker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--seeds", nargs="*", type=int, default=[])
    parser.add_argument("--every", type=int, default=1, help="use every n-th frame")
    options = parser.parse_args()
    models = load(ModelSettings(models="lite"))
    with tempfile.TemporaryDirectory() as folder:
        clips = options.clips or ([] if options.seeds else [SHIPPED])
        for seed in options.seeds:
            from training.make_clip import ClipPlan, write_clip

            clips.append(Path(folder) / f"seed_{seed}.mp4")
            write_clip(ClipPlan(seed=seed), clips[-1])
        for clip in clips:
            evaluate(clip, models, options.every)


def evaluate(clip: Path, models: Models, every: int) -> None:
    """Print one clip's scores."""
    truth = read_truth(clip)
    frames = list(perceive(clip, models, every))
    table = Table()
    for frame in frames:
        score_frame(frame, truth, models, table)
    print(
        f"{clip.stem}: recall {table.hits / max(table.expected, 1):.3f}  "
        f"precision {table.hits / max(table.hits + table.false, 1):.3f}  "
        f"mask IoU {np.mean(table.masks):.3f}  "
        f"MPJPE {np.mean(table.mpjpe):.1f} mm (seen along the ray {np.mean(table.mpjpe_viewed):.1f})  "
        f"PA-MPJPE {np.mean(table.pa_mpjpe):.1f} mm  2D {np.mean(table.pixels):.1f} px"
    )
    trackers = {
        "PHALP": lambda: phalp(frames, models.texture, models),
        "PHALP without texture": lambda: phalp(frames, NoTexture(), models),
        "boxes' overlap alone": lambda: overlap_tracker(frames),
    }
    for name, run in trackers.items():
        f1, switches, found = score_identities(list(run()), truth)
        print(
            f"    {name:22s} IDF1 {f1:.3f}  identity switches {switches}  share of people found {found:.3f}"
        )


def perceive(clip: Path, models: Models, every: int) -> Iterator[PeopleInFrame]:
    """People of every frame, with masks; `source_index` is the frame's place in the truth."""
    with av.open(str(clip)) as container:
        for index, picture in enumerate(container.decode(video=0)):
            if index % every:
                continue
            image = picture.to_ndarray(format="bgr24")
            (people,) = models.perception.perceive([image], [index], OPTIONS)
            height, width = image.shape[:2]
            yield PeopleInFrame(
                frame_index=index // every,
                source_index=index,
                pts=index,
                pts_seconds=float(picture.time or 0.0),
                width=width,
                height=height,
                people=people_from_image(people, width, height),
            )


def score_frame(frame: PeopleInFrame, truth: ClipTruth, models: Models, table: Table) -> None:
    """Add one frame: detections by masks, then the bodies of those found."""
    t, num = frame.source_index, len(truth.betas)
    true_masks = np.stack([truth.owners[t] == p for p in range(num)])
    size = [frame.height, frame.width]
    found_masks = np.array(
        [coco_mask.decode({"size": size, "counts": person.mask_rle}) > 0 for person in frame.people]
    ).reshape(-1, *size)
    overlap = scores.mask_iou(found_masks, true_masks)
    expected = [p for p in range(num) if truth.counts(t, p)]
    table.expected += len(expected)
    pairs = [(f, expected[e]) for f, e in scores.match(overlap[:, expected], FOUND)]
    table.hits += len(pairs)
    # Somebody hardly seen may be found or not; whoever is found without being there at all is a mistake.
    others = [p for p in range(num) if p not in expected]
    matched = {f for f, _ in pairs}
    table.false += sum(
        f not in matched and not (others and overlap[f, others].max() > 0.25)
        for f in range(len(frame.people))
    )
    for f, p in pairs:
        table.masks.append(float(overlap[f, p]))
        score_body(frame.people[f], truth, t, p, models, table, (frame.width, frame.height))


def score_body(
    person: Person, truth: ClipTruth, t: int, p: int, models: Models, table: Table, size: tuple[int, int]
) -> None:
    """Add one found body."""
    rotations = truth.rotations[t, p][None].astype(np.float32)
    joints, smpl_joints = models.body.joints(rotations[:, :1], rotations[:, 1:], truth.betas[p][None])
    true_44, true_root = joints[0].astype(np.float64), smpl_joints[0, 0].astype(np.float64)
    found = person.joints_3d[LSP_14] - person.smpl_joints_3d[0]
    true = scores.root_aligned(true_44, true_root)[LSP_14]
    table.mpjpe.append(1000 * scores.mean_distance(found, true))
    ray = true_root + truth.translation[t, p]
    table.mpjpe_viewed.append(1000 * scores.mean_distance(found, true @ turned_to(ray).T))
    table.pa_mpjpe.append(1000 * scores.mean_distance(scores.procrustes(found, true), true))
    camera = assumed_intrinsics(*size)
    seen = project(person.joints_3d[:25] + person.cam_t, camera)
    placed = true_44[:25] + truth.translation[t, p]
    expected = placed[:, :2] / placed[:, 2:] * truth.focal_length_px + np.array(size) / 2
    table.pixels.append(scores.mean_distance(seen, expected))


def turned_to(ray: Float64[ndarray, "3"]) -> Float64[ndarray, "3 3"]:
    """The smallest rotation that brings a viewing ray to the optical axis.

    A crop shows a person at the frame's side from another angle than the camera's axis, and cannot tell.
    """
    from training.crops import view_rotation

    return np.asarray(view_rotation(ray), np.float64)


def phalp(
    frames: Sequence[PeopleInFrame], texture: TextureModel, models: Models
) -> Iterator[tuple[int, Int64[ndarray, " n"], Float64[ndarray, "n 4"]]]:
    """(frame, track ids, boxes) of measured people."""
    for frame in track(iter(frames), texture, models.pose_predictor, TrackingOptions()):
        people = [person for person in frame.people if person.state == "tracked"]
        yield (
            frame.source_index,
            np.array([person.track_id for person in people], np.int64),
            np.array([person.person.bbox_xyxy for person in people], np.float64).reshape(-1, 4),
        )


def overlap_tracker(
    frames: Sequence[PeopleInFrame], patience: int = 25
) -> Iterator[tuple[int, Int64[ndarray, " n"], Float64[ndarray, "n 4"]]]:
    """The simplest tracker: the box that overlaps a track's last box most goes on with it."""
    tracks: dict[int, tuple[int, ndarray]] = {}
    next_id = 1
    for index, frame in enumerate(frames):
        boxes = np.array([person.bbox_xyxy for person in frame.people], np.float64).reshape(-1, 4)
        tracks = {key: value for key, value in tracks.items() if index - value[0] <= patience}
        ids = np.zeros(len(boxes), np.int64)
        if tracks and len(boxes):
            keys = list(tracks)
            overlap = scores.box_iou(np.stack([tracks[key][1] for key in keys]), boxes)
            for row, column in scores.match(overlap, 0.3):
                ids[column] = keys[row]
        for column in np.flatnonzero(ids == 0):
            ids[column], next_id = next_id, next_id + 1
        tracks |= {int(key): (index, box) for key, box in zip(ids, boxes, strict=True)}
        yield frame.source_index, ids, boxes


def score_identities(
    tracked: Sequence[tuple[int, ndarray, ndarray]], truth: ClipTruth
) -> tuple[float, int, float]:
    """IDF1, identity switches and the share of expected people with a track."""
    num = len(truth.betas)
    in_time: dict[int, list[int]] = {p: [] for p in range(num)}
    pairs, num_true, num_found, hits = [], 0, 0, 0
    for t, ids, boxes in tracked:
        overlap = np.nan_to_num(scores.box_iou(truth.bbox_xyxy[t].astype(np.float64), boxes))
        for p, f in scores.match(overlap, FOUND):
            if truth.counts(t, p):
                hits += 1
                pairs.append((p, int(ids[f])))
                num_found += 1
                in_time[p].append(int(ids[f]))
            # Somebody hardly seen does not count, found or not.
        matched = {f for _, f in scores.match(overlap, FOUND)}
        num_found += sum(f not in matched for f in range(len(ids)))
        num_true += sum(truth.counts(t, p) for p in range(num))
    switches = sum(scores.identity_switches(history) for history in in_time.values())
    return scores.idf1(pairs, num_true, num_found), switches, hits / max(num_true, 1)


class NoTexture:
    """A `TextureModel` that finds all people alike: PHALP's cost without its texture term."""

    def distance(
        self, tracks: Sequence[Texture], detections: Sequence[Texture], pairs: Int64[ndarray, "p 2"]
    ) -> Float64[ndarray, " p"]:
        """Zero for every pair."""
        return np.zeros(len(pairs))

    def mix(self, track: Texture, detection: Texture, score: float, *, alpha: float) -> Texture:
        """The track's texture, unchanged."""
        return track

    def copy(self, texture: Texture) -> Texture:
        """The texture itself."""
        return texture

    def release(self, texture: Texture) -> None:
        """Nothing to do."""


if __name__ == "__main__":
    main()

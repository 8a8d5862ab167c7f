"""The tracker without networks and texture maps: speed, its stages against the simplest version, memory.

Run as `python -m benchmarks.tracker`.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from handler.job import TrackingOptions
from handler.people.association import cost_factors
from handler.people.motion import predict_locations
from handler.people.perceive import place
from handler.people.track import track
from handler.records import PeopleInFrame, PlacedPeople
from model_cache.interfaces import People
from tests.fakes import FakePosePredictor
from tests.handler.results.factories import make_info

WIDTH, HEIGHT = 1280, 720
MISSING_SHARE = 0.02  # of the measurements, so that tracks get lost and found
POOL_FRAMES = 600  # made ahead and replayed to and fro, so that making them is not measured
RUNS = 5


class NoTextures:
    """Textures that are all alike."""

    def distance(self, tracks: Sequence[Any], detections: Sequence[Any], pairs: ndarray) -> ndarray:
        """No difference."""
        return np.zeros(len(pairs))

    def mix(self, track: Any, detection: Any, score: float, *, alpha: float = 0.1) -> Any:
        """The track's own."""
        return track

    def copy(self, texture: Any) -> Any:
        """The same."""
        return texture


def make_images(num_people: int, num_frames: int, seed: int = 0) -> list[People]:
    """People side by side who sway, move their limbs and are missed now and then."""
    rng = np.random.default_rng(seed)
    base = rng.normal(0, 0.3, (num_people, 24, 3, 3)).astype(np.float32)
    phase = rng.uniform(0, 6, num_people)
    images = []
    for index in range(num_frames):
        seen = np.flatnonzero(rng.random(num_people) >= MISSING_SHARE)
        rotations = base[seen] + rng.normal(0, 0.02, (len(seen), 24, 3, 3)).astype(np.float32)
        center_x = WIDTH * (seen + 0.5) / num_people + 20 * np.sin(index / 20 + phase[seen])
        center = np.stack([center_x, np.full(len(seen), HEIGHT / 2)], axis=1)
        half = np.array([150, 200]) * (1 + 0.01 * rng.normal(size=(len(seen), 1)))
        box = np.concatenate([center - half, center + half], axis=1).astype(np.float32)
        images.append(
            People(
                detection_index=np.arange(len(seen)),
                bbox_xyxy=box,
                bbox_padded_xyxy=box,
                scores=np.full(len(seen), 0.9, np.float32),
                rotations=rotations,
                betas=np.zeros((len(seen), 10), np.float32),
                crop_cam=np.tile(np.array([0.9, 0, 0], np.float32), (len(seen), 1)),
                joints_3d=rng.normal(0, 0.3, (len(seen), 44, 3)).astype(np.float32),
                smpl_joints_3d=np.zeros((len(seen), 24, 3), np.float32),
                textures=tuple(object() for _ in seen),
            )
        )
    return images


def frame(index: int, people: PlacedPeople) -> PeopleInFrame:
    """A frame with these people."""
    info = make_info(index, width=WIDTH, height=HEIGHT)
    return PeopleInFrame(info=info, people=people)


def frames_per_second(num_people: int) -> tuple[float, float]:
    """Frames per second of CPU time: the tracker alone, and with placing the people on the canvas."""
    images = make_images(num_people, POOL_FRAMES)
    frames = [frame(i, place(image, WIDTH, HEIGHT)) for i, image in enumerate(images)]

    def alone() -> None:
        _drain(iter(frames))

    def with_placing() -> None:
        _drain(frame(i, place(image, WIDTH, HEIGHT)) for i, image in enumerate(images))

    return POOL_FRAMES / _best_seconds(alone), POOL_FRAMES / _best_seconds(with_placing)


def _drain(frames: Iterator[PeopleInFrame]) -> int:
    return sum(len(one.people) for one in track(frames, NoTextures(), FakePosePredictor(), TrackingOptions()))


def _best_seconds(work: Callable[[], Any], runs: int = RUNS) -> float:
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def simple_locations(locations: ndarray, times: ndarray, lost: ndarray) -> ndarray:
    """`predict_locations`' three lines one by one: ridge regression by its normal equations."""
    predicted = np.zeros((len(times), 6))
    for row in range(len(times)):
        asked = lost[row] + 1 + times[row, -1]
        series = (locations[row, :, 88], locations[row, :, 89], np.log(locations[row, :, 92]))
        for column, (values, ridge) in enumerate(zip(series, (1.2, 2.0, 5.0), strict=True)):
            design = np.stack([np.ones(len(values)), times[row]], axis=1).astype(float)
            centred = design[:, 1:] - design[:, 1:].mean(axis=0)
            target = values - values.mean()
            slope = np.linalg.solve(centred.T @ centred + ridge * np.eye(1), centred.T @ target)
            intercept = values.mean() - slope @ design[:, 1:].mean(axis=0)
            residual = values - (intercept + design[:, 1:] @ slope)
            deviation = np.sqrt((residual**2).sum() / (len(values) - 2))
            apart = asked - times[row].mean()
            widening = np.sqrt(1 + 1 / len(values) + apart**2 / ((times[row] - times[row].mean()) ** 2).sum())
            predicted[row, column] = intercept + slope[0] * asked
            predicted[row, 3 + column] = 2.5705818366 * deviation * widening
    return predicted


def simple_factors(pose_t: ndarray, loca_t: ndarray, pose_d: ndarray, loca_d: ndarray) -> ndarray:
    """`cost_factors`, pair by pair."""
    factors = np.empty((len(pose_t), len(pose_d)))
    for i in range(len(pose_t)):
        for j in range(len(pose_d)):
            pose = min(np.square(pose_t[i, :226] - pose_d[j, :226]).sum(), 1.5)
            apart = np.linalg.norm(loca_t[i, 88:90] - loca_d[j, 88:90])
            vague = np.tanh(np.hypot(loca_t[i, 93], loca_t[i, 94]))
            nearer = abs(np.log(loca_t[i, 92] / loca_d[j, 92]))
            vague_depth = np.tanh(abs(np.log(1 / loca_t[i, 95])))
            place = np.exp(apart / (0.1 + vague) / 0.3792) * np.exp(nearer / (0.1 + vague_depth) / 4.1658)
            factors[i, j] = (1 + 1.3070 * pose) * place
    return factors


def stage_ratios(num_people: int) -> dict[str, tuple[float, float]]:
    """Microseconds per frame of each stage, ours and the simplest, after checking that they agree."""
    rng = np.random.default_rng(1)
    times = np.tile(np.arange(7), (num_people, 1))
    locations = rng.uniform(0.3, 0.7, (num_people, 7, 99)).astype(np.float32)
    locations[:, :, 92] = rng.uniform(40, 60, (num_people, 7))
    lost = np.zeros(num_people, np.int64)
    poses = rng.normal(0, 0.05, (2, num_people, 229)).astype(np.float32)
    expected = predict_locations(locations, times, lost)
    simple = simple_locations(locations, times, lost)
    np.testing.assert_allclose(expected[:, [88, 89, 93, 94]], simple[:, [0, 1, 3, 4]], rtol=1e-4)
    detected = locations[:, -1]
    pose, place = cost_factors(poses[0], expected, poses[1], detected)
    np.testing.assert_allclose(
        pose * place, simple_factors(poses[0], expected, poses[1], detected), rtol=5e-3
    )

    def microseconds(work: Callable[[], Any], times_over: int) -> float:
        return _best_seconds(lambda: [work() for _ in range(times_over)]) / times_over * 1e6

    return {
        "location prediction": (
            microseconds(lambda: predict_locations(locations, times, lost), 300),
            microseconds(lambda: simple_locations(locations, times, lost), 20),
        ),
        "cost without textures": (
            microseconds(lambda: cost_factors(poses[0], expected, poses[1], detected), 300),
            microseconds(lambda: simple_factors(poses[0], expected, poses[1], detected), 5),
        ),
    }


def peak_bytes(num_frames: int) -> int:
    """Peak resident memory of a fresh process that tracks five people over so many frames."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_long_run, (num_frames,))


def _long_run(num_frames: int) -> int:
    pool = make_images(5, POOL_FRAMES)
    bounce = [*range(POOL_FRAMES), *reversed(range(POOL_FRAMES))]  # to and fro: nobody jumps

    def frames() -> Iterator[PeopleInFrame]:
        for index in range(num_frames):
            yield frame(index, place(pool[bounce[index % len(bounce)]], WIDTH, HEIGHT))

    _drain(frames())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Print everything."""
    print("tracker without networks and texture maps, frames per second of CPU time on one core")
    for num_people, wanted in ((5, 2000), (20, 1000)):
        alone, with_placing = frames_per_second(num_people)
        print(f"  {num_people:2d} people: {alone:6.0f} (wanted {wanted}), with placing {with_placing:6.0f}")
    print("stages against the simplest version, microseconds per frame")
    for num_people in (5, 20):
        for name, (ours, simple) in stage_ratios(num_people).items():
            print(
                f"  {num_people:2d} people, {name}: {ours:7.0f} against {simple:8.0f}, {simple / ours:5.1f} x"
            )
    short, long = peak_bytes(2_000), peak_bytes(20_000)
    print(
        f"peak memory: {short / 2**20:.1f} MiB over 2,000 frames, {long / 2**20:.1f} MiB over 20,000, ",
        end="",
    )
    print(f"ratio {long / short:.3f} (wanted below 1.05)")


if __name__ == "__main__":
    main()

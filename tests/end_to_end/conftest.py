"""An endpoint with the real worker over fake networks, and a bucket with clips."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.end_to_end.endpoint_process import EndpointProcess, serving
from tests.fakes import draw_people
from tests.s3_server import S3Server
from tests.video_factory import make_video

SIZE = (320, 240)
SHORT_FRAMES = 40
LONG_FRAMES = 320


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """An endpoint with one worker, and its bucket with two clips."""

    endpoint: EndpointProcess
    store: S3Server

    def left_behind(self) -> list[str]:
        """Files of jobs in the worker's scratch folder."""
        return [str(path) for path in (self.endpoint.data / "scratch").glob("worker-*/job-*")]


def draw(index: int, size: tuple[int, int]) -> Any:
    """Red walks to and fro, green stands."""
    step = 40 - abs(index % 80 - 40)
    left = 16 + 3 * step
    return draw_people({"red": (left, 64, left + 64, 208), "green": (240, 80, 304, 224)}, size)


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One worker; perception takes 50 ms a batch, so that a long job can be met on its way."""
    folder = tmp_path_factory.mktemp("system")
    settings = {"FAKE_SECONDS_PER_BATCH": "0.05", "WORKER_PROGRESS_INTERVAL_SECONDS": "0.1"}
    settings["BUCKET_ENDPOINT_URL"] = "http://elsewhere.invalid"  # the endpoint's own store comes first
    with serving(folder / "data", 1, "tests.end_to_end.fake_models_worker", **settings) as endpoint:
        client = endpoint.client
        store = S3Server(
            endpoint_url=client["BUCKET_ENDPOINT_URL"],
            access_key_id=client["BUCKET_ACCESS_KEY_ID"],
            secret_access_key=client["BUCKET_SECRET_ACCESS_KEY"],
            bucket=client["BUCKET_NAME"],
            folder=endpoint.data / "objects",
        )
        for name, num_frames in (("short", SHORT_FRAMES), ("long", LONG_FRAMES)):
            clip = make_video(folder / f"{name}.mp4", num_frames=num_frames, fps=25, size=SIZE, draw=draw)
            store.client().upload_file(str(clip), store.bucket, f"videos/{name}.mp4")
        endpoint.wait_for_workers(1)
        yield System(endpoint=endpoint, store=store)

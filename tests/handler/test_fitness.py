"""Is this worker fit to take jobs?"""

from pathlib import Path

import numpy as np
import pytest

from handler.fitness import Unfit, check_bucket, check_decoding, check_folder, check_models, checks
from handler.settings import BucketSettings
from model_cache.errors import DeviceFault
from model_cache.interfaces import People
from tests.fakes import FakeBody, FakeModels, FakePerception
from tests.handler.rig import before_frame, local_settings


def test_a_good_worker_passes_every_check(tmp_path: Path) -> None:
    """Loaded models, a writable folder and complete settings: nothing to complain about."""
    found = checks(FakeModels(), local_settings(tmp_path / "new"))

    assert [check.__name__ for check in found] == [
        "models_answer",
        "scratch_has_room",
        "video_decodes",
        "bucket_is_complete",
    ]
    for check in found:
        check()


class LosingPerception(FakePerception):
    """Answers for the first frame only."""

    def perceive(self, *arguments: object) -> list[People]:
        return super().perceive(*arguments)[:1]  # type: ignore[arg-type]


class NanBody(FakeBody):
    """Gives joints that are no numbers."""

    def joints(self, *arguments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first, second = super().joints(*arguments)
        return first * np.float32("nan"), second


@pytest.mark.parametrize(
    ("models", "error", "words"),
    [
        (FakeModels(perception=before_frame(0, DeviceFault("illegal access"))), DeviceFault, "illegal"),
        (FakeModels(perception=LosingPerception()), Unfit, "fewer images"),
        (FakeModels(body=NanBody()), Unfit, "body model"),
    ],
    ids=["device fault", "frame lost", "nan"],
)
def test_models_that_fail_are_noticed(models: FakeModels, error: type[Exception], words: str) -> None:
    """What the models raise comes out; two frames must give two answers, and joints are numbers."""
    with pytest.raises(error, match=words):
        check_models(models)


def test_scratch_must_be_writable_and_roomy(tmp_path: Path) -> None:
    """A folder that is no folder, and a disk below its reserve, are refused."""
    check_folder(tmp_path, 0)
    (tmp_path / "file").touch()
    with pytest.raises(Unfit, match="is not a folder"):
        check_folder(tmp_path / "file", 0)
    with pytest.raises(Unfit, match="the scratch folder cannot be written: No such file"):
        check_folder(Path("/proc/nowhere"), 0)
    with pytest.raises(Unfit, match="free"):
        check_folder(tmp_path, 1 << 60)


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({}, None),
        ({"name": "results", "access_key_id": "key", "secret_access_key": "secret"}, None),
        ({"name": "results"}, "set BUCKET_ACCESS_KEY_ID, BUCKET_SECRET_ACCESS_KEY as well"),
        ({"access_key_id": "key", "secret_access_key": "secret"}, "set BUCKET_NAME as well"),
        ({"endpoint_url": "https://s3.example.com"}, "BUCKET_NAME, "),
    ],
    ids=["none", "all", "name", "keys", "endpoint"],
)
def test_bucket_settings_are_all_there_or_none(fields: dict[str, str], missing: str | None) -> None:
    """Half a set of bucket settings is a mistake that no job should find out."""
    settings = BucketSettings.model_validate(fields)
    if missing is None:
        check_bucket(settings)
    else:
        with pytest.raises(Unfit, match=missing):
            check_bucket(settings)


def test_decoding_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check looks at what comes out of the decoder, and leaves no file behind."""
    check_decoding(tmp_path)
    assert list(tmp_path.iterdir()) == []

    from handler import fitness

    real = fitness.write_clip
    monkeypatch.setattr(fitness, "write_clip", lambda path, greys: real(path, [200 for _ in greys]))
    with pytest.raises(Unfit, match="was decoded to other pictures"):
        check_decoding(tmp_path)

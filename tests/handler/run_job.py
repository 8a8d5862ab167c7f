"""Runs one local job and prints its peak memory: `python -m tests.handler.run_job CLIP OUT [fake|lite]`.

A process of its own, so that the peak is the job's. Knows nothing of what is being compared.
"""

import json
import resource
import sys
from pathlib import Path

from handler.control import JobControl
from handler.job import JobInput
from handler.pipeline import LocalRun, run
from handler.process import tune_process
from handler.progress import Report
from handler.settings import IntakeSettings, Settings
from handler.work import Work
from model_cache.interfaces import Models
from tests.fakes import FakeModels

SMALL = {"phalp.small_w": 20, "phalp.small_h": 40, "phalp.low_th_c": 0.3}  # people in a small picture


def load(kind: str) -> Models:
    """The fakes that see coloured rectangles, or the bundled networks."""
    if kind == "fake":
        return FakeModels()
    from model_cache.load import load as load_models
    from model_cache.settings import ModelSettings

    return load_models(ModelSettings(models="lite"))


def main(clip: Path, out: Path, kind: str) -> None:
    """Print frames, people and peak bytes as JSON."""
    tune_process()  # as the worker does
    models = load(kind)
    folder = out / "job"
    folder.mkdir(parents=True)
    work = Work(
        job_id="memory",
        request=JobInput.model_validate({"video_url": "unused", "options": {"tracking": SMALL}}),
        input_sha256="0" * 64,
        folder=folder,
        control=JobControl(time_budget_seconds=3600.0),
        report=Report(lambda message: None),
    )
    settings = Settings(intake=IntakeSettings(reserve_disk_bytes=0))
    reply = run(work, models, settings, LocalRun(out=out, video=clip))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps({"frames": reply.frames, "people": reply.people, "peak_bytes": peak}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "fake")

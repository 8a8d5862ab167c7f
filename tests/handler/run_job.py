"""Runs one local job with fake models and prints its peak memory: `python -m tests.handler.run_job CLIP OUT`.

A process of its own, so that the peak is the job's. Knows nothing of what is being compared.
"""

import json
import resource
import sys
from pathlib import Path

from handler.control import JobControl
from handler.job import JobInput
from handler.pipeline import LocalRun, run
from handler.progress import Report
from handler.settings import IntakeSettings, Settings
from handler.work import Work
from tests.fakes import FakeModels


def main(clip: Path, out: Path) -> None:
    """Print frames and peak bytes as JSON."""
    folder = out / "job"
    folder.mkdir(parents=True)
    work = Work(
        job_id="memory",
        request=JobInput.model_validate({"video_url": "unused"}),
        input_sha256="0" * 64,
        folder=folder,
        control=JobControl(time_budget_seconds=3600.0),
        report=Report(lambda message: None),
    )
    settings = Settings(intake=IntakeSettings(reserve_disk_bytes=0))
    reply = run(work, FakeModels(), settings, LocalRun(out=out, video=clip))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps({"frames": reply.frames, "people": reply.people, "peak_bytes": peak}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

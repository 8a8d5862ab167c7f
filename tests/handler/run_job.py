"""Runs one local job and prints its peak memory: `python -m tests.handler.run_job CLIP OUT [fake|lite]`.

A process of its own, so that the peak is the job's.
"""

import json
import resource
import sys
from pathlib import Path

from handler.pipeline import LocalRun, run
from handler.process import tune_process
from model_cache.interfaces import Models
from tests.fakes import FakeModels
from tests.handler.rig import local_context, local_settings

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
    context = local_context(out / "job", {"tracking": SMALL})
    reply = run(context, models, local_settings(out), LocalRun(out=out, video=clip))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps({"frames": reply.frames, "people": reply.people, "peak_bytes": peak}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "fake")

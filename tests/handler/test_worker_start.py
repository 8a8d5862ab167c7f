"""How a worker gets ready for RunPod's SDK."""

import cpuinfo
import pytest

from handler import worker
from handler.settings import Settings


def test_sdk_is_imported_quiet_and_without_a_survey_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring the clock takes a second and a process; DEBUG, the SDK's own level, would show whole jobs."""
    at_import = []
    real_import = worker.import_module

    def watched(name: str) -> object:
        if name != "runpod":
            return real_import(name)
        at_import.append((cpuinfo.get_cpu_info(), worker.os.environ["RUNPOD_LOG_LEVEL"]))
        return None

    monkeypatch.setattr(cpuinfo, "get_cpu_info", pytest.fail)
    monkeypatch.setattr(worker, "import_module", watched)
    monkeypatch.setattr(worker.logs, "configure", lambda *_: None)
    monkeypatch.setenv("RUNPOD_LOG_LEVEL", "")
    monkeypatch.delenv("RUNPOD_LOG_LEVEL")
    worker.prepare(Settings())

    assert at_import == [({}, "INFO")]

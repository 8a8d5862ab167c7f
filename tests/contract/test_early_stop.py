"""How long a stop is remembered that comes before its job; test_worker.py has it in the SDK's own loop."""

import asyncio
from pathlib import Path

import pytest

from handler.handler import EARLY_STOP_SECONDS, Handler
from handler.logs import Redactor
from handler.scratch import Scratch
from handler.settings import WorkerSettings


def test_early_stop_is_kept_for_a_moment_and_for_one_run(tmp_path: Path, monkeypatch) -> None:
    """The same id may come again to be run: after its stop was obeyed once, or some seconds later."""
    now, scratch = [100.0], Scratch(tmp_path)
    monkeypatch.setattr("handler.handler.time.monotonic", lambda: now[0])
    extras = {"settings": WorkerSettings(), "scratch": scratch, "redactor": Redactor()}
    handler = Handler(lambda work: pytest.fail("it was stopped"), **extras)

    def outcome(job_id: str) -> str:
        try:
            return str(asyncio.run(handler.handle({"id": job_id, "input": None}))["error_code"])
        except asyncio.CancelledError:
            return "cancelled"

    handler.refuse("a")
    assert [outcome("b"), outcome("a"), outcome("a")] == ["INPUT_INVALID", "cancelled", "INPUT_INVALID"]
    handler.refuse("a")
    now[0] += EARLY_STOP_SECONDS
    assert outcome("a") == "INPUT_INVALID"
    scratch.close()

"""The command `overlay`: draw finished results on their video, without computing them again."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from handler.context import JobControl
from handler.errors import ErrorCode, InputError
from handler.process import stopping_on_signals
from handler.read_ahead import read_ahead
from handler.results.document import ResultDocument
from handler.results.overlay import OVERLAY_NAME, overlay
from handler.results.upload import SUMMARY_NAME
from handler.results.write import FRAMES_NAME
from handler.settings import Settings
from handler.source.decode import decode, frames_ahead
from handler.source.download import local_source
from handler.source.probe import probe
from model_cache.interfaces import BodyModel


def draw(
    video: Path,
    results: Path,
    out: Path | None,
    style: str | None,
    load: Callable[[], BodyModel],
    settings: Settings,
) -> Path:
    """Write `overlay.mp4` and return its path. A signal ends the process, see `stopping_on_signals`.

    The folder `results` holds `result.json` and `frames.jsonl.gz` of `video`. By default the overlay is
    written beside them, in the style that the job asked for.

    Raises:
        InputError: INPUT_INVALID, the folder has no results, or those of another video.
        SourceError: the video cannot be read.
    """
    source = local_source(video, settings.intake)
    document = _document(results)
    facts = probe(source.path, settings.intake)
    if facts.sha256 != document.source.sha256:
        raise InputError(ErrorCode.INPUT_INVALID, "these results were made from another video")
    options = document.options
    if style is not None:
        options = options.model_copy(update={"overlay_style": style})
    control = JobControl(time_budget_seconds=settings.worker.time_budget_seconds)
    decoded = decode(
        facts,
        settings.intake,
        start_s=options.start_s,
        end_s=options.end_s,
        stride=options.stride,
        check=control.check,
    )
    queue_frames = settings.worker.decode_queue_frames
    target = out or results / OVERLAY_NAME
    scratch = tempfile.TemporaryDirectory(dir=target.parent)
    with (
        stopping_on_signals(
            lambda: control.stop(ErrorCode.CANCELLED, "stopped by a signal"), scratch.cleanup
        ),
        scratch as folder,
        read_ahead(decoded, depth=frames_ahead(facts, queue_frames), name="decode") as frames,
    ):
        made = overlay(
            frames,
            results / FRAMES_NAME,
            options=options,
            facts=facts,
            body=load(),
            into=Path(folder),
            num_frames=document.processed.frames,
            check=control.check,
        )
        shutil.move(made, target)
    return target


def _document(results: Path) -> ResultDocument:
    try:
        return ResultDocument.model_validate_json((results / SUMMARY_NAME).read_bytes())
    except (OSError, ValidationError):
        raise InputError(ErrorCode.INPUT_INVALID, f"the folder has no readable {SUMMARY_NAME}") from None

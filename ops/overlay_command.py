"""The command `overlay`: draw finished results on their video, without computing them again."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from handler.context import JobControl
from handler.errors import ErrorCode
from handler.process import stopping_on_signals
from handler.read_ahead import read_ahead
from handler.records import VideoFacts
from handler.results.document import ResultDocument
from handler.results.overlay import OVERLAY_NAME, overlay
from handler.results.upload import SUMMARY_NAME
from handler.results.write import FRAMES_NAME
from handler.settings import Settings
from handler.source.decode import decode, frames_ahead
from handler.source.download import local_source
from handler.source.probe import probe
from model_cache.interfaces import BodyModel
from model_cache.store.files import sha256_of
from ops.local_files import CannotUse, check_all, check_out, named, naming


def draw(
    video: Path,
    results: Path,
    out: Path | None,
    style: str | None,
    load: Callable[[str], BodyModel],
    settings: Settings,
) -> Path:
    """Write `overlay.mp4` and return its path. A signal ends the process, see `stopping_on_signals`.

    The folder `results` holds `result.json` and `frames.jsonl.gz` of `video`. By default the overlay is
    written beside them, in the style that the job asked for. `load` is given the name of the body model.

    Raises:
        CannotUse: the video, the results or the place of the overlay; or the results are another video's.
    """
    target = out or results
    target = target / OVERLAY_NAME if target.is_dir() else target
    found: list[VideoFacts | ResultDocument] = []
    check_all(
        lambda: found.append(_facts(video, settings)),
        lambda: found.append(_document(results)),
        lambda: check_out(target.parent),
    )
    facts, document = found
    assert isinstance(facts, VideoFacts)
    assert isinstance(document, ResultDocument)
    if facts.sha256 != document.source.sha256:
        raise CannotUse(f"{named(results)}: these results were made from another video than {named(video)}")
    if target.exists() and target.samefile(video):
        raise CannotUse(f"{named(target)} is the video itself; name another file for the overlay")
    options = document.options
    if style is not None:
        options = options.model_copy(update={"overlay_style": style})
    body = load(document.models.body_model)
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
    target.parent.mkdir(parents=True, exist_ok=True)
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
            body=body,
            into=Path(folder),
            num_frames=document.processed.frames,
            check=control.check,
        )
        shutil.move(made, target)
    return target


def _facts(video: Path, settings: Settings) -> VideoFacts:
    with naming(video):
        return probe(local_source(video, settings.intake).path, settings.intake)


def _document(results: Path) -> ResultDocument:
    """The summary in a folder, whose frames are there and whole."""
    summary, frames = results / SUMMARY_NAME, results / FRAMES_NAME
    try:
        document = ResultDocument.model_validate_json(summary.read_bytes())
        if sha256_of(frames) not in [artifact.sha256 for artifact in document.artifacts]:
            raise CannotUse(f"{named(frames)} is not the file that {SUMMARY_NAME} names; copy it here again")
    except ValidationError:
        raise CannotUse(f"{named(summary)} is no summary of results, or not whole") from None
    except OSError as error:
        at = Path(error.filename or results)
        wanted = f"name the folder that holds a result's {SUMMARY_NAME} and {FRAMES_NAME}"
        raise CannotUse(f"{named(at)} cannot be read: {error.strerror}; {wanted}") from error
    return document

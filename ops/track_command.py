"""The command `track`: one video, a progress bar, results in a folder, no server."""

import hashlib
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from handler import logs
from handler.context import JobContext, JobControl
from handler.errors import ErrorCode, JobError
from handler.job import JobInput, ProgressMessage, Reply
from handler.pipeline import LocalRun, run
from handler.process import stopping_on_signals, tune_process
from handler.progress import Report
from handler.scratch import Scratch
from handler.settings import IntakeSettings, Settings
from handler.source.download import local_source
from handler.source.probe import check_part, probe
from handler.transfer.addresses import AddressRefused, check_url, check_written_address
from model_cache.errors import ModelError
from model_cache.interfaces import Models
from ops.local_files import CannotUse, check_all, check_out, check_scratch, naming, sentences
from ops.overrides import DEFAULT_OUT, Overrides, WrongWords, local_path, parse_overrides
from ops.pictures import Pictures, pictures_in

FAILED, WRONG_USE = 1, 2  # exit codes


def track(
    words: Sequence[str],
    out: Path | None,
    load: Callable[[], Models],
    settings: Settings,
    *,
    console: Console,
    errors: Console,
) -> int:
    """Track one video; returns the exit code. A signal ends the process, see `stopping_on_signals`.

    The words are the source and `name=value` options, as typed. Models are loaded once the request is known
    to be valid. The console shows progress and the summary.
    """
    redactor = logs.Redactor(settings.secrets())
    logs.configure(max(settings.worker.log_level, "WARNING", key=_severity), redactor, as_json=False)
    try:
        overrides = parse_overrides(words, out)
        is_url = re.match(r"[a-z]+://", overrides.source, re.IGNORECASE)
        video = None if is_url else local_path(overrides.source)
        if overrides.fps and not (video and video.is_dir()):
            raise WrongWords(["render.fps is for a folder of pictures; a video has times of its own"])
    except WrongWords as error:
        for problem in error.problems:
            errors.print(redactor(f"error: {problem}"), markup=False, highlight=False, soft_wrap=True)
        return WRONG_USE
    tune_process()
    folder = local_path(overrides.out or DEFAULT_OUT)
    request = JobInput(video_url=SecretStr(overrides.source), options=overrides.options)
    pictures: list[Pictures] = []
    with redactor.hiding(logs.job_secrets(request) if is_url else ()):
        try:
            check_all(
                lambda: pictures.extend(_look_at(video, overrides, settings.intake)),
                lambda: check_out(folder),
                lambda: check_scratch(settings),
            )
            models = load()
            reply = _run(request, LocalRun(out=folder, video=video), pictures, models, settings, console)
        except (CannotUse, JobError, ModelError) as error:
            for sentence in sentences(error, redactor, folder):
                errors.print(redactor(f"error: {sentence}"), markup=False, highlight=False, soft_wrap=True)
            return FAILED
    _summarise(reply, models, folder, console)
    return 0


def _look_at(video: Path | None, overrides: Overrides, settings: IntakeSettings) -> Iterator[Pictures]:
    """Refuse a link or a file that cannot be read; gives the pictures if it is a folder of them."""
    if video is None:
        try:
            check_written_address(check_url(overrides.source, settings), settings)
        except AddressRefused as error:
            raise CannotUse(str(error)) from error
        return
    with naming(video):
        if video.is_dir():
            yield pictures_in(video, overrides.fps, settings)
        else:
            facts = probe(local_source(video, settings).path, settings, sha256="not read yet")
            check_part(facts, settings, start_s=overrides.options.start_s, end_s=overrides.options.end_s)


def _run(
    request: JobInput,
    local: LocalRun,
    pictures: Sequence[Pictures],
    models: Models,
    settings: Settings,
    console: Console,
) -> Reply:
    scratch = Scratch(settings.worker.scratch)
    control = JobControl(time_budget_seconds=settings.worker.time_budget_seconds)

    def clean_up() -> None:
        scratch.close()
        console.show_cursor()

    with (
        stopping_on_signals(lambda: control.stop(ErrorCode.CANCELLED, "stopped by a signal"), clean_up),
        closing(scratch),
        scratch.job() as folder,
        _progress_bar(console) as publish,
    ):
        for found in pictures:  # one at most
            local = replace(local, video=found.video(folder))
        work = JobContext(
            job_id=f"track-{uuid.uuid4().hex[:12]}",
            request=request,
            # Without the path or URL: the same video and options give the same result, and `source.sha256`
            # says which video it was.
            input_sha256=hashlib.sha256(request.options.model_dump_json(by_alias=True).encode()).hexdigest(),
            folder=folder,
            control=control,
            report=Report(publish),
        )
        return run(work, models, settings, local)


@contextmanager
def _progress_bar(console: Console) -> Iterator[Callable[[ProgressMessage], None]]:
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[fps]:.1f} frames/s, {task.fields[people]} people"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("start", total=None, fps=0.0, people=0)

        def publish(message: ProgressMessage) -> None:
            progress.update(
                task,
                description=message.stage,
                total=message.frames_total,
                completed=message.frames_done,
                fps=message.fps,
                people=message.people,
            )

        yield publish


def _summarise(reply: Reply, models: Models, folder: Path, console: Console) -> None:
    lines = [
        f"{reply.frames} frames ({reply.duration_s:.1f} s), {reply.people} people, "
        f"{reply.fps:.1f} frames/s, {reply.models} models",
        *(f"wrote {folder / artifact.kind} ({artifact.bytes} bytes)" for artifact in reply.artifacts),
        *(f"warning: {warning.code}: {warning.message}" for warning in reply.warnings),
    ]
    if models.description.notice:
        lines.append(f"note: {models.description.notice}")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _severity(level: str) -> int:
    return ("DEBUG", "INFO", "WARNING", "ERROR").index(level)

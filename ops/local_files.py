"""What keeps a local command from its files, found before any work; and how a command's errors are told."""

import contextlib
import os
import re
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from handler.errors import ErrorCode, JobError
from handler.fitness import Unfit, check_folder
from handler.logs import Redactor
from handler.settings import Settings
from model_cache.errors import ModelError


class CannotUse(Exception):
    """Files or folders that a command needs cannot be used.

    Attributes:
        problems: a sentence for each, with its path.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def check_all(*checks: Callable[[], object]) -> None:
    """Raise what all of the checks have found, at once."""
    problems: list[str] = []
    for check in checks:
        try:
            check()
        except CannotUse as error:
            problems += error.problems
    if problems:
        raise CannotUse(*problems)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let the errors of a job say which file they are about."""
    try:
        yield
    except JobError as error:
        raise CannotUse(f"{named(path)}: {error.message}") from error
    except OSError as error:
        raise CannotUse(f"{named(path)} cannot be read: {error.strerror}") from error


def check_out(folder: Path) -> None:
    """Raise CannotUse unless files can be made in this folder; one that is not there is not there after."""
    made = [parent for parent in (folder, *folder.parents) if not os.path.lexists(parent)]
    try:
        check_folder(folder, 0, named(folder))
    except Unfit as error:
        raise CannotUse(str(error)) from error
    finally:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()


def check_scratch(settings: Settings) -> None:
    """Raise CannotUse unless temporary files can be made."""
    scratch = settings.worker.scratch
    try:
        check_folder(scratch, settings.intake.reserve_disk_bytes, f"WORKER_SCRATCH, {named(scratch)},")
    except Unfit as error:
        raise CannotUse(str(error)) from error


def named(path: Path) -> str:
    """A path as messages show it; one of WSL's drives also as Windows calls it."""
    match = re.fullmatch(r"/mnt/([a-z])(/.*)", str(path))
    if match is None:
        return str(path)
    in_windows = match[1].upper() + ":" + match[2].replace("/", "\\")
    mounted = "" if Path("/mnt", match[1]).is_dir() else "; that drive is not mounted here"
    return f"{path} ({in_windows}{mounted})"


def sentences(error: Exception, redactor: Redactor, folder: Path | None = None) -> Sequence[str]:
    """What to tell of an error that ends a command.

    Of one that no part of the program expects the traceback goes to a new file, in `folder` or else among the
    system's temporary files.
    """
    match error:
        case CannotUse():
            return error.problems
        case JobError() if error.code != ErrorCode.INTERNAL:
            return [f"{error.message} ({error.code})"]
        case ModelError():
            return [str(error)]
    stage = f" in the stage {error.stage}" if isinstance(error, JobError) else ""
    *_, last = traceback.format_exception_only((stage and error.__cause__) or error)
    details = redactor("".join(traceback.format_exception(error)))
    for place in (folder, None):
        with contextlib.suppress(OSError):
            if place is not None:
                place.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", prefix="fault-", suffix=".log", dir=place, delete=False
            ) as file:
                file.write(details)
            return [f"an unexpected fault{stage} (details: {file.name}): {last.strip()}"]
    return [f"an unexpected fault{stage}: {last.strip()}", details]

"""Every error that a caller can see: its stable code, and whether to retry or to replace the worker.

JobError(code, message, retryable, refresh_worker)
├─ InputError     the request itself
├─ SourceError    the video
├─ ComputeError   the models and their device
├─ ResultError    the upload
├─ WorkerError    this worker and its limits
└─ EndpointError  the endpoint on one machine
"""

from typing import ClassVar, Literal

Stage = Literal[
    "validate", "download", "probe", "decode", "perceive", "track", "write", "overlay", "upload", "worker"
]


class JobError(Exception):
    """A failure that is reported to the caller.

    Attributes:
        code: stable name, part of the API (docs/05-errors.md).
        message: one sentence without paths, tokens or URL queries.
        retryable: the same request may succeed later.
        refresh_worker: this process must not take another job.
        stage: where it happened; the pipeline sets it if it is None.
    """

    codes: ClassVar[dict[str, tuple[bool, bool]]] = {}  # code -> (retryable, refresh_worker)

    def __init__(self, code: str, message: str, *, stage: Stage | None = None) -> None:
        if code not in self.codes:
            raise ValueError(f"{type(self).__name__} has no code {code}")
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable, self.refresh_worker = self.codes[code]
        self.stage = stage


class InputError(JobError):
    """The request cannot be carried out as it is."""

    codes: ClassVar = {
        "INPUT_INVALID": (False, False),
        "URL_NOT_ALLOWED": (False, False),
        "VIDEO_TOO_LARGE": (False, False),
        "VIDEO_TOO_LONG": (False, False),
        "DUPLICATE_JOB": (False, False),
    }


class SourceError(JobError):
    """The video could not be fetched or read."""

    codes: ClassVar = {
        "DOWNLOAD_NOT_FOUND": (False, False),
        "DOWNLOAD_DENIED": (False, False),
        "DOWNLOAD_FAILED": (True, False),
        "VIDEO_UNREADABLE": (False, False),
        "VIDEO_HAS_NO_FRAMES": (False, False),
    }


class ComputeError(JobError):
    """A model or its device failed."""

    codes: ClassVar = {
        "GPU_OUT_OF_MEMORY": (True, True),
        "GPU_FAULT": (True, True),
        "MODEL_OUTPUT_INVALID": (False, False),
    }


class ResultError(JobError):
    """The results could not be written or uploaded."""

    codes: ClassVar = {
        "UPLOAD_DENIED": (False, False),
        "UPLOAD_FAILED": (True, False),
        "OUTPUT_NOT_ALLOWED": (False, False),
    }


class WorkerError(JobError):
    """This worker could not finish the job."""

    codes: ClassVar = {
        "TIME_BUDGET_EXCEEDED": (False, False),
        "STALLED": (True, True),
        "CANCELLED": (False, False),
        "SHUTTING_DOWN": (True, False),
        "DISK_FULL": (True, True),
        "INTERNAL": (False, False),
    }


class EndpointError(JobError):
    """The endpoint on one machine got no usable answer from a worker."""

    codes: ClassVar = {
        "WORKER_LOST": (True, False),
        "EXECUTION_TIMEOUT": (True, False),
        "RESULT_INVALID": (False, False),
        "RESULT_TOO_LARGE": (False, False),
    }


def all_codes() -> dict[str, tuple[bool, bool]]:
    """Every code with (retryable, refresh_worker), for the docs and their test."""
    codes: dict[str, tuple[bool, bool]] = {}
    for kind in (InputError, SourceError, ComputeError, ResultError, WorkerError, EndpointError):
        codes.update(kind.codes)
    return codes

"""Every error that a caller can see: its stable code, and whether to retry or to replace the worker."""

from enum import StrEnum, auto
from typing import Literal

Stage = Literal[
    "validate", "download", "probe", "decode", "perceive", "track", "write", "overlay", "upload", "worker"
]


class ErrorCode(StrEnum):
    """Stable names, part of the API (docs/05-errors.md)."""

    @staticmethod
    def _generate_next_value_(name: str, *_: object) -> str:
        return name

    # InputError
    INPUT_INVALID = auto()
    URL_NOT_ALLOWED = auto()
    VIDEO_TOO_LARGE = auto()
    VIDEO_TOO_LONG = auto()
    DUPLICATE_JOB = auto()

    # SourceError
    DOWNLOAD_NOT_FOUND = auto()
    DOWNLOAD_DENIED = auto()
    DOWNLOAD_FAILED = auto()
    VIDEO_UNREADABLE = auto()
    VIDEO_HAS_NO_FRAMES = auto()

    # ComputeError
    GPU_OUT_OF_MEMORY = auto()
    GPU_FAULT = auto()
    MODEL_OUTPUT_INVALID = auto()

    # ResultError
    UPLOAD_DENIED = auto()
    UPLOAD_FAILED = auto()
    OUTPUT_NOT_ALLOWED = auto()

    # WorkerError
    TIME_BUDGET_EXCEEDED = auto()
    STALLED = auto()
    CANCELLED = auto()
    SHUTTING_DOWN = auto()
    DISK_FULL = auto()
    INTERNAL = auto()

    # EndpointError
    WORKER_LOST = auto()
    EXECUTION_TIMEOUT = auto()
    RESULT_INVALID = auto()
    RESULT_TOO_LARGE = auto()

    @property
    def retryable(self) -> bool:
        """Whether the same request, sent again without a change, has a chance."""
        return self in _RETRYABLE

    @property
    def refresh_worker(self) -> bool:
        """This process must not take another job."""
        return self in _REFRESH_WORKER


_REFRESH_WORKER = frozenset(
    {ErrorCode.GPU_OUT_OF_MEMORY, ErrorCode.GPU_FAULT, ErrorCode.STALLED, ErrorCode.DISK_FULL}
)
_RETRYABLE = _REFRESH_WORKER | {
    ErrorCode.DOWNLOAD_FAILED,
    ErrorCode.UPLOAD_FAILED,
    ErrorCode.SHUTTING_DOWN,
}


class JobError(Exception):
    """A failure that is reported to the caller.

    Attributes:
        code: what failed.
        message: one sentence without paths, tokens or URL queries.
        stage: where it happened; the pipeline sets it if it is None.
    """

    def __init__(self, code: ErrorCode, message: str, *, stage: Stage | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = ErrorCode(code)
        self.message = message
        self.stage = stage


class InputError(JobError):
    """The request cannot be carried out as it is."""


class SourceError(JobError):
    """The video could not be fetched or read."""


class ComputeError(JobError):
    """A model or its device failed."""


class ResultError(JobError):
    """The results could not be written or uploaded."""


class WorkerError(JobError):
    """This worker could not finish the job."""


class EndpointError(JobError):
    """The endpoint on one machine got no usable answer from a worker."""

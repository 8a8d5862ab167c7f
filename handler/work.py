"""One valid job on its way through the worker. Knows nothing of how it is carried out."""

from dataclasses import dataclass
from pathlib import Path

from handler.context import JobControl
from handler.job import JobInput
from handler.progress import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a job is, and what it needs to run.

    Attributes:
        job_id: the idempotency key.
        request: the validated input.
        input_sha256: of the input as it came, canonical JSON.
        folder: private and empty; removed afterwards.
        control: must be checked at least once per frame.
        report: takes the progress.
    """

    job_id: str
    request: JobInput
    input_sha256: str
    folder: Path
    control: JobControl
    report: Report

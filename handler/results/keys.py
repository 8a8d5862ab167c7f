"""Object keys that stay where they belong. Knows nothing of S3."""

import hashlib
import re

from handler.errors import InputError
from handler.job import ArtifactKind

MAX_PREFIX_BYTES = 512
MAX_JOB_ID_LENGTH = 100
HASH_LENGTH = 16
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def key_prefix(root_prefix: str, prefix: str, job_id: str) -> str:
    """`root/prefix/job/`, under which a job's files lie.

    Args:
        root_prefix: the operator's; every key lies under it.
        prefix: the caller's.
        job_id: from the platform; made safe with `safe_job_id`.

    Raises:
        InputError: INPUT_INVALID, a prefix starts with a slash or holds `..`, a backslash or a control
            character, or is too long.
    """
    parts = [*_segments(root_prefix), *_segments(prefix), safe_job_id(job_id)]
    return "/".join(parts) + "/"


def object_key(prefix: str, kind: ArtifactKind, sha256: str) -> str:
    """`prefix/result.json`, or `prefix/{hash}/{file}` for the data it names.

    Two workers may do one job at the same time, and their bytes differ. Neither overwrites what the other's
    summary names, so a summary always matches its files, whoever stores what in which order.

    Args:
        prefix: from `key_prefix`.
        kind: the file.
        sha256: of its bytes, hexadecimal.
    """
    return f"{prefix}{kind}" if kind == "result.json" else f"{prefix}{sha256[:HASH_LENGTH]}/{kind}"


def safe_job_id(job_id: str) -> str:
    """The id as one path segment; an id that had to be changed ends with a hash, so that no two meet."""
    safe = _UNSAFE.sub("_", job_id)[:MAX_JOB_ID_LENGTH]
    if safe == job_id and safe.strip("."):
        return safe
    return f"{safe.strip('.')}-{hashlib.sha256(job_id.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def _segments(prefix: str) -> list[str]:
    if prefix.startswith("/"):
        raise _invalid("must not start with a slash")
    if "\\" in prefix or _CONTROL.search(prefix):
        raise _invalid("must not hold backslashes or control characters")
    if len(prefix.encode()) > MAX_PREFIX_BYTES:
        raise _invalid(f"must not be longer than {MAX_PREFIX_BYTES} bytes")
    segments = [segment for segment in prefix.split("/") if segment not in ("", ".")]
    if ".." in segments:
        raise _invalid("must not hold `..`")
    return segments


def _invalid(rule: str) -> InputError:
    return InputError("INPUT_INVALID", f"output.prefix {rule}", stage="validate")

"""What can go wrong while bytes move: errors of httpcore2, boto3, TLS and the disk, put into words once.

Who asked for the bytes turns a TransferError into an error of its own, by its `problem`.
"""

import contextlib
import errno
import re
import ssl
from collections.abc import Iterator
from enum import Enum, auto

import httpcore2
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSLError,
)

from handler.errors import ErrorCode, Stage, WorkerError


class Problem(Enum):
    """What is wrong; beside each, what the error's `reason` says. X is the server or the store."""

    ADDRESS_REFUSED = auto()  # why, a whole sentence
    NOT_HTTPS = auto()  # the same
    NAME_INVALID = auto()  # of a bucket or key: nothing
    HOST_UNKNOWN = auto()  # X ... "has a host name that does not exist"
    NOT_FOUND = auto()  # X's answer: "HTTP 404"
    LINK_REFUSED = auto()  # X's answer
    KEYS_REFUSED = auto()  # X's answer, or that there are no keys
    ACCESS_DENIED = auto()  # X's answer; S3 says so of an object that is not there, if the keys may not list
    REFUSED = auto()  # X ... "answered HTTP 405"
    UPLOAD_UNKNOWN = auto()  # X ... "does not know the upload any more"
    ENCODED = auto()  # X ... "sends the file compressed"
    NOT_TRUSTED = auto()  # X ... "has no valid certificate"
    TOO_LARGE = auto()  # "larger than the limit of 10 bytes"
    DISK_FULL = auto()  # "1 MiB free, 2 MiB are needed"
    CHANGED = auto()  # X ... "changed the file while it was fetched"
    UNAVAILABLE = auto()  # X ... "answered HTTP 503"


class TransferError(Exception):
    """Bytes could not be moved. The reason holds no secret and no part of an address."""

    def __init__(self, problem: Problem, reason: str, *, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.problem = problem
        self.reason = reason
        self.may_pass = problem in (Problem.UNAVAILABLE, Problem.CHANGED)  # another attempt may go better
        self.wait_seconds = wait_seconds  # that the server asks for before it


# Most specific first; a test walks httpcore2's exceptions and fails on one that is not here.
HTTP_ERRORS: tuple[tuple[type[Exception], str], ...] = (
    (httpcore2.ConnectTimeout, "cannot be reached: no connection in time"),
    (httpcore2.ConnectError, "cannot be reached: no connection"),
    (httpcore2.TimeoutException, "fell silent"),
    (httpcore2.NetworkError, "broke the connection"),
    (httpcore2.ProtocolError, "broke off its answer or did not speak HTTP"),
    (httpcore2.ProxyError, "is behind a proxy that refuses"),
)

S3_PROBLEMS = {
    "404": Problem.NOT_FOUND,  # what a HEAD says, which has no body
    "NoSuchKey": Problem.NOT_FOUND,
    "403": Problem.ACCESS_DENIED,
    "AccessDenied": Problem.ACCESS_DENIED,
    "InvalidAccessKeyId": Problem.KEYS_REFUSED,
    "SignatureDoesNotMatch": Problem.KEYS_REFUSED,
    "ExpiredToken": Problem.KEYS_REFUSED,
}
# Refused now; the same request may succeed in a moment.
S3_BUSY = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded"}
S3_BUSY |= {"OperationAborted"}  # somebody else writes the same object
S3_BUSY |= {"BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"}  # damaged on the way


@contextlib.contextmanager
def http_errors_translated() -> Iterator[None]:
    """httpcore2's errors as ours."""
    try:
        yield
    except tuple(kind for kind, _ in HTTP_ERRORS) as error:
        if _is_certificate_error(error):
            raise TransferError(Problem.NOT_TRUSTED, "has no valid certificate") from error
        reason = next(text for kind, text in HTTP_ERRORS if isinstance(error, kind))
        raise TransferError(Problem.UNAVAILABLE, reason) from error


def is_busy(status: int) -> bool:
    """Whether an HTTP status means that the same request may succeed later."""
    return status >= 500 or status in (408, 425, 429)


def _is_certificate_error(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def s3_errors_translated() -> Iterator[None]:
    """boto3's errors as ours. Its messages are dropped: they name hosts, buckets and key ids."""
    try:
        yield
    except ClientError as error:
        raise _refusal(error) from error
    except ParamValidationError as error:
        raise TransferError(Problem.NAME_INVALID, "") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise TransferError(Problem.KEYS_REFUSED, "there are none") from error
    except SSLError as error:
        raise TransferError(Problem.NOT_TRUSTED, "has no valid certificate") from error
    except FlexibleChecksumError as error:
        raise TransferError(Problem.CHANGED, "sent bytes that do not have its own checksum") from error
    except BotoCoreError as error:
        reason = f"cannot be reached, or broke the connection ({type(error).__name__})"
        raise TransferError(Problem.UNAVAILABLE, reason) from error


def _refusal(error: ClientError) -> TransferError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    shown = code if re.fullmatch(r"[A-Za-z0-9]{1,64}", code) else f"HTTP {status}"
    if code in S3_PROBLEMS:
        return TransferError(S3_PROBLEMS[code], shown)
    if code == "NoSuchUpload":
        return TransferError(Problem.UPLOAD_UNKNOWN, "does not know the upload any more")
    if code in ("PreconditionFailed", "412"):
        return TransferError(Problem.CHANGED, "changed the file while it was fetched")
    if is_busy(status) or code in S3_BUSY:
        return TransferError(Problem.UNAVAILABLE, f"answered {shown}")
    return TransferError(Problem.REFUSED, f"answered {shown}")


@contextlib.contextmanager
def disk_full_is_coded(stage: Stage) -> Iterator[None]:
    """A full disk as DISK_FULL; every other error passes."""
    try:
        yield
    except OSError as error:  # PyAV's are such errors, too
        if not is_disk_full(error):
            raise
        raise WorkerError(ErrorCode.DISK_FULL, "the worker's disk is full", stage=stage) from error


def is_disk_full(error: Exception) -> bool:
    """Whether the system says that no more can be written."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)

"""Why a source of weight files does not give one, in words for the operator."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from handler.transfer import partial
from handler.transfer.errors import Problem, TransferError
from model_cache.errors import StoreUnavailable

# What follows the name of the source; `{}` is the error's own reason.
WORDS = {
    Problem.ADDRESS_REFUSED: "is not an address that can be fetched: {}",
    Problem.NOT_HTTPS: "leads to an address that is not https (WEIGHTS_ALLOW_HTTP=true accepts http)",
    Problem.NAME_INVALID: "is not an address that can be fetched: no bucket can have this name",
    Problem.NOT_FOUND: "has no such file ({})",
    Problem.LINK_REFUSED: "refused ({}): expired, not public, or moved",
    Problem.ACCESS_DENIED: "refused the credentials (WEIGHTS_S3_* or BUCKET_*): {}",
    Problem.KEYS_REFUSED: "refused the credentials (WEIGHTS_S3_* or BUCKET_*): {}",
    Problem.NOT_TRUSTED: "{} (WEIGHTS_CA_FILE names one more authority)",
}


class SourceFailed(Exception):
    """This source does not give the file; another may. The message may be shown: it holds no secret."""


@contextmanager
def told_to_the_operator() -> Iterator[None]:
    """A TransferError as SourceFailed, or as StoreUnavailable if the disk is full."""
    try:
        yield
    except TransferError as error:
        if error.problem is Problem.DISK_FULL:
            raise StoreUnavailable(
                f"the disk of the weights store has {error.reason}: make room, or put the store elsewhere "
                "(MODEL_STORE). What was fetched is kept"
            ) from error
        raise SourceFailed(WORDS.get(error.problem, "{}").format(error.reason)) from error


def check_room(folder: Path, num_bytes: int, reserve_bytes: int) -> None:
    """Raises StoreUnavailable where writing so much would leave less than the reserve."""
    with told_to_the_operator():
        partial.check_room(folder, num_bytes, reserve_bytes)

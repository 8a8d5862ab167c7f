"""What a presigned PUT URL says of itself: until when it holds, and what else was signed.

Anything that a store would refuse after an hour of work, and that can be read in the URL, is read first.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import httpx2

# AWS and all that follow it, Google, Alibaba, Tencent: the names of the headers the signature covers.
_HEADER_LISTS = ("x-amz-signedheaders", "x-goog-signedheaders", "x-oss-additional-headers", "q-header-list")
# Content-Length is sent, but nobody can have signed the right one: the file is made later.
_FREE_TO_SIGN = {"host", "content-type"}
_HEADER_NAME = re.compile(r"[a-z0-9-]{1,64}")
CLOCKS_DIFFER_SECONDS = 60


def foreign_headers(url: httpx2.URL) -> list[str]:
    """Names of signed headers that the worker does not send, or cannot send with the signed value."""
    query = _query(url)
    names = {name for key in _HEADER_LISTS for name in query.get(key, "").lower().split(";") if name}
    if "content-md5" in query:  # how boto3 writes it into the older URLs, which list no headers
        names.add("content-md5")
    return sorted(name if _HEADER_NAME.fullmatch(name) else "(unreadable)" for name in names - _FREE_TO_SIGN)


def has_expired(url: httpx2.URL, now: datetime) -> bool:
    """Whether the URL says that its time is over; False if it does not say."""
    try:
        end = _end(_query(url))
        return end is not None and end + timedelta(seconds=CLOCKS_DIFFER_SECONDS) < now
    except (ValueError, TypeError, OverflowError, OSError):
        return False  # not a time; the store will say what it thinks


def is_azure(url: httpx2.URL) -> bool:
    """Whether this is a shared access signature of Azure, whose PUT needs a header of its own."""
    return {"sv", "sig"} <= _query(url).keys()


def _end(query: Mapping[str, str]) -> datetime | None:
    for vendor in ("x-amz", "x-goog", "x-oss"):
        start, seconds = query.get(f"{vendor}-date"), query.get(f"{vendor}-expires")
        if start is not None and seconds is not None:
            signed = datetime.strptime(start, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            return signed + timedelta(seconds=int(seconds))
    if "expires" in query:  # AWS's and Google's older form
        return datetime.fromtimestamp(int(query["expires"]), UTC)
    if "se" in query and "sig" in query:  # Azure
        end = datetime.fromisoformat(query["se"])
        return end if end.tzinfo else end.replace(tzinfo=UTC)
    return None


def _query(url: httpx2.URL) -> dict[str, str]:
    return {name.lower(): value for name, value in url.params.multi_items()}

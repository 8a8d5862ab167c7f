"""Log lines: one JSON object each, with the job's id and without secrets.

The keys `requestId`, `message` and `level` are the ones RunPod's console understands.
"""

import logging
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import structlog

from handler.job import BucketOutput, JobInput

HIDDEN = "[hidden]"
SHORTEST_SECRET = 6  # hiding shorter values would hide ordinary words
MAX_MESSAGE_CHARS = 4096  # RunPod's own cut
MAX_FIELD_CHARS = 16_384

# Everything of a URL that may hold a secret: userinfo, query, fragment. The path stays: it says which file.
_URL = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?:[^\s/?#\"'<>@]*@)?(?P<rest>[^\s?#\"'<>]*)[?#]?[^\s\"'<>]*", re.I
)
# A query without its URL, as HTTP libraries print it: GET /clip.mp4?X-Amz-Signature=...
_QUERY = re.compile(r"\?[^\s\"'<>=]+=[^\s\"'<>]*")
_NAMED = re.compile(
    r"\b(?P<name>x-amz-[a-z-]+|(?:[a-z_-]*(?:signature|secret|token|password|api[_-]?key|access[_-]?key(?:[_-]?id)?))"
    r"|sig|authorization)(?P<sep>[\"']?\s*[=:]\s*[\"']?)(?:(?:bearer|basic|aws4-hmac-sha256)\s+)?[^\s\"'&,;]+",
    re.I,
)  # fmt: skip

_VERBOSE = ("boto3", "botocore", "s3transfer", "urllib3", "httpx2", "httpcore2", "asyncio", "aiohttp.access")
_LEVELS = {"warning": "WARN", "critical": "ERROR", "exception": "ERROR"}


class Redactor:
    """Hides secrets in text: those it is given, e.g. the bucket's keys, and whatever looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._lock = threading.RLock()  # a signal handler may log while its own thread holds it
        self._known: Counter[str] = Counter()
        self._add(secrets)

    @contextmanager
    def hiding(self, secrets: Iterable[str]) -> Iterator[None]:
        """Also hide these for as long as the context is open (one job)."""
        mine = tuple(secrets)
        self._add(mine)
        try:
            yield
        finally:
            with self._lock:
                self._known -= Counter(mine)

    def __call__(self, text: str) -> str:
        """The text with its secrets hidden, safe to encode."""
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate would break the JSON reply
        with self._lock:
            known = sorted(self._known, key=len, reverse=True)
        for secret in known:
            text = text.replace(secret, HIDDEN)
        text = _URL.sub(_without_query, text)
        text = _QUERY.sub(f"?{HIDDEN}", text)
        return _NAMED.sub(rf"\g<name>\g<sep>{HIDDEN}", text)

    def deeply(self, value: object) -> object:
        """The same for all strings inside dicts, lists and tuples; other objects become their `str`."""
        match value:
            case None | bool() | int() | float():
                return value
            case dict():
                return {self(str(key)): self.deeply(item) for key, item in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self.deeply(item) for item in value]
            case _:
                return self(str(value))

    def _add(self, secrets: Iterable[str]) -> None:
        with self._lock:
            self._known.update(secret for secret in secrets if len(secret) >= SHORTEST_SECRET)


def url_secrets(url: str) -> set[str]:
    """The secret parts of a URL: userinfo, fragment, the query and its values, as written and decoded."""
    try:
        parts = urlsplit(url)
        found = {parts.username or "", parts.password or "", parts.query, parts.fragment}
    except ValueError:  # not a URL: all of it may be secret
        return {url}
    found |= {value for _, value in parse_qsl(parts.query)}
    found |= {pair.partition("=")[2] for pair in parts.query.split("&")}
    found |= {unquote(secret) for secret in found}
    return {secret for secret in found if len(secret) >= SHORTEST_SECRET}


def job_secrets(request: JobInput) -> set[str]:
    """Everything in a request that must not be logged or returned."""
    secrets = url_secrets(request.video_url.get_secret_value())
    if not isinstance(request.output, BucketOutput):
        for url in request.output.put_urls.by_kind().values():
            secrets |= url_secrets(url.get_secret_value())
    return secrets


def configure(level: str, redactor: Redactor, *, as_json: bool = True) -> None:
    """Send every log line, our own and the libraries', through one redacting formatter.

    JSON lines go to stdout (a worker), readable ones to stderr (the command line). Call it after
    `import runpod`, which puts a plain-text handler on the root logger.
    """

    def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
        return {redactor(key): redactor.deeply(value) for key, value in event.items()}

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.add_log_level,
    ]
    rendering: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        redact,
    ]
    if as_json:
        rendering += [_platform_keys, structlog.processors.JSONRenderer()]
    else:
        rendering += [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    stream = logging.StreamHandler(sys.stdout if as_json else sys.stderr)
    stream.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=rendering))
    logging.basicConfig(level=level, handlers=[stream], force=True)
    for name in _VERBOSE:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))


@contextmanager
def job_context(job_id: str) -> Iterator[None]:
    """Add the job's id to every line of this thread or task."""
    structlog.contextvars.clear_contextvars()
    with structlog.contextvars.bound_contextvars(job_id=job_id):
        yield


def _without_query(match: re.Match[str]) -> str:
    text = match.group(0)
    query = f"?{HIDDEN}" if "?" in text else ""
    return f"{match['scheme']}{match['rest']}{query}"


def _platform_keys(_: Any, __: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    level = str(event.pop("level", "info"))
    message = str(event.pop("event", ""))
    line: dict[str, Any] = {
        "requestId": event.pop("job_id", None),
        "message": message[:MAX_MESSAGE_CHARS],
        "level": _LEVELS.get(level, level.upper()),
    }
    cut = {key: text[:MAX_FIELD_CHARS] if isinstance(text, str) else text for key, text in event.items()}
    return line | cut

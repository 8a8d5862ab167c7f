"""Request bodies in, JSON answers out, errors among them."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog
from aiohttp import web

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]
Routes = dict[tuple[str, str], Handle]  # by method and path

log = structlog.get_logger(__name__)


class Refused(Exception):
    """A request that cannot be served, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def answer(document: object, *, status: int = 200) -> web.Response:
    """A document as JSON."""
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")


async def read_body(request: web.Request, *, max_bytes: int, seconds: float) -> bytes:
    """The body of a request, decompressed.

    Raises:
        Refused: 413, it is larger than `max_bytes`; 408, it has not arrived within `seconds`; 400, it cannot
            be decompressed.
    """
    too_large = Refused(413, f"the body is larger than {max_bytes} bytes")
    if request.content_length is not None and request.content_length > max_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.content.iter_chunked(1 << 16):
                body += part
                if len(body) > max_bytes:
                    raise too_large
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {seconds:g} s") from None
    except web.RequestPayloadError:
        raise Refused(400, "the body is not encoded as its headers say") from None
    return bytes(body)


def parse_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object, strictly: NaN and Infinity are not JSON.

    Raises:
        Refused: 400, it is not, or it is nested too deeply to be written again.
    """
    try:
        document = orjson.loads(body)
        orjson.dumps([document])  # a batch of jobs is a list of them
    except orjson.JSONDecodeError:
        raise Refused(400, "the body is not JSON") from None
    except orjson.JSONEncodeError:  # orjson reads deeper nesting than it writes
        raise Refused(400, "the body is nested too deeply") from None
    if not isinstance(document, dict):
        raise Refused(400, "the body is not a JSON object")
    return document


@web.middleware
async def errors_as_json(request: web.Request, handler: Handle) -> web.StreamResponse:
    """Every error is `{"error": ...}`; an unexpected one is logged, and its caller told no more than 500."""
    try:
        return await handler(request)
    except Refused as refused:
        return answer({"error": refused.reason}, status=refused.status)
    except web.HTTPException as error:
        return answer({"error": error.reason}, status=error.status)
    except sqlite3.OperationalError as error:  # a full disk, mostly; workers try again on a 5xx
        log.error("the queue cannot be written", error=str(error))
        return answer({"error": "the queue cannot be written now"}, status=503)
    except Exception:
        log.exception("a request failed", method=request.method, route=str(request.match_info.route.resource))
        return answer({"error": "internal error"}, status=500)

"""JSON answers of the endpoint, errors among them. Knows nothing of jobs or workers."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog
from aiohttp import web

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]

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
    """The body of a request.

    Args:
        request: whose body has not been read.
        max_bytes: of the body, decompressed.
        seconds: in which it must have come whole.

    Raises:
        Refused: 413, it is too large; 408, it does not come; 400, it is not coded as its headers say.
    """
    if request.content_length is not None and request.content_length > max_bytes:
        raise Refused(413, f"the body is larger than {max_bytes} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.content.iter_chunked(1 << 16):
                body += part
                if len(body) > max_bytes:
                    raise Refused(413, f"the body is larger than {max_bytes} bytes")
    except TimeoutError:
        raise Refused(408, f"the body did not come within {seconds:g} s") from None
    except web.RequestPayloadError:
        raise Refused(400, "the body is not coded as its headers say") from None
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
    except orjson.JSONEncodeError:  # reading goes deeper than writing
        raise Refused(400, "the body is nested too deeply") from None
    if not isinstance(document, dict):
        raise Refused(400, "the body is not a JSON object")
    return document


@web.middleware
async def errors_as_json(request: web.Request, handler: Handle) -> web.StreamResponse:
    """Every error is `{"error": ...}`; what nobody foresaw is logged and told apart by its status only."""
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

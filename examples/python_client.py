"""Submit a video, follow its progress, read the frames as a stream.

    python examples/python_client.py clip.mp4 --env var/endpoint/client.env
    python examples/python_client.py "https://bucket.s3.amazonaws.com/clip.mp4?X-Amz-..." --webhook

Against RunPod set ENDPOINT_URL=https://api.runpod.ai/v2/YOUR_ENDPOINT, ENDPOINT_API_KEY and BUCKET_*, the
bucket that the worker writes to. Against `python -m handler serve` its folder's client.env holds them all.

Exit codes: 0 the job has a result; 1 it failed, and would again; 2 a word, a setting, a file or a key is
wrong; 3 something did not answer, or failed in a way that may pass: try again later; 130 Ctrl-C, which
cancels the job.

Needs boto3 for the bucket; everything else is Python's own. To use it in your backend, copy the classes.
"""

import argparse
import gzip
import http.client
import json
import os
import re
import secrets
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, HTTPClientError

Json = dict[str, Any]
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")
POLL_SECONDS = 1.0
POLL_SECONDS_BESIDE_WEBHOOK = 60.0  # a call that got lost costs a minute, not the result
LINK_SECONDS = 6 * 3600  # how long the presigned URL lives; a job that has not ended by then cannot succeed
CALLS = 8  # of a call that fails in a way that may pass: with RETRY_SECONDS, three minutes
RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 60.0  # the pauses between them: 1, 2, 4, ...
JOB_ATTEMPTS = 3  # of a job that failed in a way that may pass
WEBHOOK_BYTES = 1_000_000  # more than any webhook of this worker

# What the caller can do about each ending that comes again if the same request is sent again.
ADVICE = {
    "INPUT_INVALID": "correct the request; the message names the field",
    "URL_NOT_ALLOWED": "give a public https link",
    "VIDEO_TOO_LARGE": "re-encode the video smaller, or raise the worker's VIDEO_MAX_...",
    "VIDEO_TOO_LONG": "ask for a part with start_s and end_s, or raise the worker's VIDEO_MAX_...",
    "DUPLICATE_JOB": "this id is running with another input: submit a new job",
    "DOWNLOAD_NOT_FOUND": "there is nothing at the link: check the key it was signed for",
    "DOWNLOAD_DENIED": "the link has expired or was signed wrongly: sign a new one",
    "VIDEO_UNREADABLE": "check that the file is a video, or re-encode it as MP4 with H.264",
    "VIDEO_HAS_NO_FRAMES": "check that start_s lies within the video",
    "MODEL_OUTPUT_INVALID": "report it to whoever runs the endpoint, with the video",
    "UPLOAD_DENIED": "check what the worker's keys may write, or sign new upload links",
    "OUTPUT_NOT_ALLOWED": "send output.put_urls, or give the worker a bucket",
    "TIME_BUDGET_EXCEEDED": "send shorter parts, or raise the worker's WORKER_TIME_BUDGET_SECONDS",
    "INTERNAL": "report it to whoever runs the endpoint, with the job's id",
    "EXECUTION_TIMEOUT": "give the job more time (--timeout), or send shorter parts",
    "TIMED_OUT": "give the job more time (--timeout), or send shorter parts",
    "WORKER_LOST": "every worker that took it ended: look at the workers' logs",
    "RESULT_INVALID": "report it to whoever runs the endpoint, with the job's id",
    "RESULT_TOO_LARGE": "report it to whoever runs the endpoint, with the job's id",
    "CANCELLED": "somebody cancelled it; nothing was stored",
}


class WrongUse(Exception):
    """A word, a setting or a file that this program cannot work with."""


class EndpointError(Exception):
    """The endpoint did not answer, or did not do what it was asked.

    Attributes:
        status: HTTP status of the answer; None if there was none.
        retryable: the same call may succeed later.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = status is None or status == 429 or status >= 500


class JobFailed(Exception):
    """The job ended without a result.

    Attributes:
        code: e.g. VIDEO_UNREADABLE, or TIMED_OUT; every code is in docs/05-errors.md.
        retryable: the same request may succeed later.
        advice: what to do.
    """

    def __init__(self, document: Json) -> None:
        details = document.get("output")
        details = details if isinstance(details, dict) else {}
        message = str(document.get("error") or document["status"])
        super().__init__(message)
        self.code = details.get("error_code") or message.partition(":")[0]
        self.retryable = details.get("retryable") is True
        self.advice = "try again later" if self.retryable else ADVICE.get(self.code, "see docs/05-errors.md")


class Endpoint:
    """RunPod's job API, or the same API on one machine.

    Args:
        url: https://api.runpod.ai/v2/YOUR_ENDPOINT, or http://127.0.0.1:8000/v2/local.
        api_key: RunPod's, or SERVE_API_KEY; None where none is needed.
        retry_seconds: the first pause before a call is made again; each further one is twice as long.
    """

    def __init__(self, url: str, api_key: str | None = None, retry_seconds: float = RETRY_SECONDS) -> None:
        self._url = url.rstrip("/")
        self._retry_seconds = retry_seconds
        self._headers = {"Content-Type": "application/json", "User-Agent": "hmr2-example-client/1"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def check(self) -> None:
        """Find out that address and key are right, before anything is uploaded."""
        try:
            self._call("GET", "health")
        except EndpointError as error:
            if error.status in (401, 403, 404):
                raise EndpointError(
                    f"{error}; check ENDPOINT_URL and ENDPOINT_API_KEY", error.status
                ) from None
            raise

    def submit(self, job_input: Json, *, webhook: str | None = None, timeout_seconds: int = 3600) -> str:
        """Queue a job; its id, which stays the same over retries."""
        request: Json = {"input": job_input, "policy": {"executionTimeout": timeout_seconds * 1000}}
        if webhook:
            request["webhook"] = webhook
        # Sent again only if the answer was "not now": if it got lost, the job may be queued already.
        reply = self._patiently("POST", "run", request, when=lambda error: error.status in (429, 503))
        return str(reply["id"])

    def status(self, job_id: str) -> Json:
        """The job's status document; a poll that fails is made again, with growing pauses."""
        return self._patiently("GET", f"status/{quote(job_id)}", when=lambda error: error.retryable)

    def cancel(self, job_id: str) -> Json:
        """End a job, queued or running."""
        return self._call("POST", f"cancel/{quote(job_id)}")

    def retry(self, job_id: str) -> Json:
        """Queue a failed job again, with the same id and input."""
        return self._call("POST", f"retry/{quote(job_id)}")

    def follow(
        self,
        job_id: str,
        *,
        every_seconds: float = POLL_SECONDS,
        timeout_seconds: float = LINK_SECONDS,
        called: threading.Event | None = None,
    ) -> Iterator[Json]:
        """The job's status documents up to the last; `output` is progress, then the reply.

        Args:
            job_id: which job.
            every_seconds: the pause between polls.
            timeout_seconds: give up after so long; the job goes on.
            called: ends a pause when it is set: by the job's webhook.
        """
        deadline = time.monotonic() + timeout_seconds
        called = called or threading.Event()
        while True:
            document = self.status(job_id)
            yield document
            if document.get("status") in ENDED:
                return
            if time.monotonic() > deadline:
                raise EndpointError(f"job {job_id} has not ended in {timeout_seconds:g} seconds; it goes on")
            if called.wait(every_seconds):
                called.clear()

    def _patiently(
        self, method: str, path: str, body: Json | None = None, *, when: Callable[[EndpointError], bool]
    ) -> Json:
        failed = 0
        while True:
            try:
                return self._call(method, path, body)
            except EndpointError as error:
                failed += 1
                if failed == CALLS or not when(error):
                    raise
            time.sleep(min(self._retry_seconds * 2 ** (failed - 1), LONGEST_RETRY_SECONDS))

    def _call(self, method: str, path: str, body: Json | None = None) -> Json:
        url = f"{self._url}/{path}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, headers=self._headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                document = json.load(reply)
        except urllib.error.HTTPError as error:
            raise EndpointError(f"{url} answered {error.code}: {_said(error)}", error.code) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise EndpointError(f"nothing answers at {url} ({reason}); is it running?") from None
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise EndpointError(f"{url} answered with something that is no JSON object")
        return document


def _said(error: urllib.error.HTTPError) -> str:
    """What the body of an answer says is wrong."""
    text = ""
    with suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
        text = error.read(2000).decode(errors="replace").strip()
        text = json.loads(text).get("error", text)
    return str(text)


def read_frames(body: IO[bytes]) -> Iterator[Json]:
    """The records of frames.jsonl.gz, one at a time: an hour of video needs no more memory than a second."""
    with gzip.open(body, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


class WebhookReceiver:
    """Listens for the calls that tell of a job's end.

    Anyone may call an open address and RunPod signs nothing, so the address holds a secret token, and a call
    is only a hint to ask /status for the truth. It may come twice, or never. It repeats the job's input with
    its presigned URLs: do not log it.

    Args:
        port: on loopback; 0 for a free one.
        public_url: where the world reaches that port, e.g. through a tunnel; default loopback itself.

    Attributes:
        url: to give as `webhook`.

    Raises:
        WrongUse: the port is taken, or is none.
    """

    def __init__(self, port: int = 0, public_url: str | None = None) -> None:
        token = secrets.token_urlsafe(16)
        self._jobs = jobs = dict[str, threading.Event]()

        class Call(BaseHTTPRequestHandler):
            timeout = 30  # seconds that a caller may be silent

            def do_POST(self) -> None:
                with suppress(OSError):  # the caller has gone
                    self.send_response(self._receive())
                    self.send_header("Content-Length", "0")
                    self.send_header("Connection", "close")
                    self.end_headers()

            def _receive(self) -> int:
                """The status to answer with: 200 is what RunPod wants, after others it calls again."""
                path = self.path.encode(errors="replace").rpartition(b"/")[2]
                if not secrets.compare_digest(path, f"done?token={token}".encode()):
                    return 403
                length = self.headers.get("Content-Length", "")
                if not re.fullmatch("[0-9]{1,9}", length):
                    return 411
                if int(length) > WEBHOOK_BYTES:
                    return 413
                try:
                    document = json.loads(self.rfile.read(int(length)))
                except (ValueError, RecursionError):
                    return 400
                if not isinstance(document, dict) or not isinstance(document.get("id"), str):
                    return 400
                if document.get("status") not in ENDED:
                    return 400
                if document["id"] not in jobs:
                    return 404
                jobs[document["id"]].set()
                return 200

            def log_message(self, *_: object) -> None:
                pass

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Call)
        except (OSError, OverflowError) as error:
            raise WrongUse(f"cannot listen on port {port} ({error}); give another") from None
        base = (public_url or f"http://127.0.0.1:{self._server.server_port}").rstrip("/")
        self.url = f"{base}/done?token={token}"
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def expect(self, job_id: str) -> threading.Event:
        """Set by a call about this job; calls about jobs that nobody expects are refused."""
        return self._jobs.setdefault(job_id, threading.Event())

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def bucket_client(settings: dict[str, str]) -> Any:
    """An S3 client for BUCKET_*; checksums only where they are required, which every S3 service accepts."""
    return boto3.client(
        "s3",
        endpoint_url=settings.get("BUCKET_ENDPOINT_URL"),
        aws_access_key_id=settings.get("BUCKET_ACCESS_KEY_ID"),
        aws_secret_access_key=settings.get("BUCKET_SECRET_ACCESS_KEY"),
        region_name=settings.get("BUCKET_REGION"),
        config=Config(
            signature_version="s3v4", request_checksum_calculation="when_required", connect_timeout=10
        ),
    )


def read_settings(file: Path | None) -> dict[str, str]:
    """The environment, and over it the lines of a file; empty ones count as missing.

    Raises:
        WrongUse: there is no such file, or a setting is missing or wrong.
    """
    settings = dict(os.environ)  # noqa: TID251 - a program of its own
    if file is not None:
        if not file.is_file():
            raise WrongUse(f"there is no file {file}; `python -m handler serve` writes it when it starts")
        settings |= dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)
    settings = {name: value.strip() for name, value in settings.items() if value.strip()}
    if missing := [name for name in ("ENDPOINT_URL", "BUCKET_NAME") if name not in settings]:
        raise WrongUse(f"not set: {', '.join(missing)}; set them, or name a file with them (--env)")
    if not settings["ENDPOINT_URL"].startswith(("http://", "https://")):
        raise WrongUse("ENDPOINT_URL must begin with https:// or http://")
    if not re.fullmatch("[!-~]*", settings.get("ENDPOINT_API_KEY", "")):
        raise WrongUse("ENDPOINT_API_KEY holds a character that no key has")
    return settings


def upload(s3: Any, bucket: str, video: Path) -> str:
    """Store a local file; a link that reads it."""
    key = f"videos/{secrets.token_hex(8)}/{video.name}"
    s3.upload_file(str(video), bucket, key)
    print(f"uploaded {video} as {key} to the bucket {bucket}", flush=True)
    link: str = s3.generate_presigned_url(
        "get_object", {"Bucket": bucket, "Key": key}, ExpiresIn=LINK_SECONDS
    )
    return link


def run_job(
    endpoint: Endpoint, job_input: Json, *, receiver: WebhookReceiver | None, timeout_seconds: int
) -> Json:
    """Submit a job, show its progress to its end, and again if it failed in a way that may pass; the reply.

    Raises:
        JobFailed: it ended without a result.
    """
    webhook = None if receiver is None else receiver.url
    job_id = endpoint.submit(job_input, webhook=webhook, timeout_seconds=timeout_seconds)
    print(f"job {job_id}", flush=True)
    called = None if receiver is None else receiver.expect(job_id)
    every_seconds = POLL_SECONDS if called is None else POLL_SECONDS_BESIDE_WEBHOOK
    attempt = 0
    try:
        while True:
            attempt += 1
            document = _show(endpoint.follow(job_id, every_seconds=every_seconds, called=called))
            if document["status"] == "COMPLETED":
                reply: Json = document["output"]
                return reply
            failure = JobFailed(document)
            if attempt == JOB_ATTEMPTS or not failure.retryable:
                raise failure
            print(f"{failure}; trying again")
            endpoint.retry(job_id)
    except KeyboardInterrupt:
        endpoint.cancel(job_id)
        print(f"cancelled job {job_id}", file=sys.stderr)
        raise


def _show(documents: Iterator[Json]) -> Json:
    """Print what is new in each status document; the last one."""
    shown = ""
    for document in documents:
        line, progress = str(document.get("status")), document.get("output")
        if line == "IN_PROGRESS" and isinstance(progress, dict) and "stage" in progress:
            total = progress["frames_total"]
            line += f" {progress['stage']} {progress['frames_done']}/{'?' if total is None else total} frames"
        if line != shown:
            print(line, flush=True)
            shown = line
    return document


def show_result(s3: Any, reply: Json) -> None:
    """Read the results from the bucket and print what is in them."""
    keys = {artifact["kind"]: artifact["key"] for artifact in reply["artifacts"]}
    summary = json.load(s3.get_object(Bucket=reply["bucket"], Key=keys["result.json"])["Body"])
    seen: Counter[int] = Counter()
    with closing(s3.get_object(Bucket=reply["bucket"], Key=keys["frames.jsonl.gz"])["Body"]) as body:
        for frame in read_frames(body):
            seen.update(person["track_id"] for person in frame["people"])
    print(f"{reply['frames']} frames, {reply['people']} people, models: {summary['models']['models']}")
    for track_id, num_frames in sorted(seen.items()):
        print(f"person {track_id}: in {num_frames} frames")
    for warning in reply["warnings"]:
        print(f"warning {warning['code']}: {warning['message']}")
    for key in keys.values():
        print(f"stored {key} in the bucket {reply['bucket']}")


def main() -> int:
    """Run one job and print what came out of it; the exit code."""
    arguments = _arguments()
    try:
        settings = read_settings(arguments.env)
        is_link = "://" in arguments.video
        if not is_link and not Path(arguments.video).is_file():
            raise WrongUse(f"there is no file {arguments.video}")
        endpoint = Endpoint(settings["ENDPOINT_URL"], settings.get("ENDPOINT_API_KEY"))
        endpoint.check()
        s3 = bucket_client(settings)
        with ExitStack() as open_now:
            receiver = None
            if arguments.webhook:
                receiver = WebhookReceiver(arguments.webhook_port, arguments.webhook_url)
                open_now.callback(receiver.close)
            link = arguments.video
            if not is_link:
                link = upload(s3, settings["BUCKET_NAME"], Path(arguments.video))
            job_input = {"video_url": link, "options": arguments.options}
            reply = run_job(endpoint, job_input, receiver=receiver, timeout_seconds=arguments.timeout)
        show_result(s3, reply)
    except JobFailed as failure:
        print(f"failed: {failure}\nwhat to do: {failure.advice}", file=sys.stderr)
        return 3 if failure.retryable else 1
    except WrongUse as error:
        print(error, file=sys.stderr)
        return 2
    except EndpointError as error:
        print(error, file=sys.stderr)
        return 3 if error.retryable else 2
    except (BotoCoreError, Boto3Error, ClientError, ValueError) as error:
        print(f"the bucket: {error}", file=sys.stderr)
        return 3 if isinstance(error, EndpointConnectionError | HTTPClientError) else 2
    except OSError as error:
        print(f"{error.filename or 'reading the results'}: {error.strerror or error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", help="a presigned URL, or a local file, which is uploaded first")
    parser.add_argument("--env", type=Path, help="file with ENDPOINT_URL and BUCKET_*")
    parser.add_argument(
        "--options", type=_options, default={}, help="job options as JSON, e.g. '{\"end_s\": 2}'"
    )
    parser.add_argument("--timeout", type=int, default=3600, help="seconds that the job may run")
    parser.add_argument("--webhook", action="store_true", help="wait for the webhook instead of polling")
    parser.add_argument("--webhook-port", type=int, default=0, help="where to wait for it, on loopback")
    parser.add_argument("--webhook-url", help="where the world reaches that port")
    return parser.parse_args()


def _options(text: str) -> Json:
    try:
        options = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    if not isinstance(options, dict):
        raise argparse.ArgumentTypeError('not a JSON object such as {"end_s": 2}')
    return options


if __name__ == "__main__":
    sys.exit(main())

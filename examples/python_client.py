"""Submit a video, follow its progress, read the frames as a stream.

    python examples/python_client.py clip.mp4 --env var/endpoint/client.env
    python examples/python_client.py "https://bucket.s3.amazonaws.com/clip.mp4?X-Amz-..." --webhook

Against RunPod set ENDPOINT_URL=https://api.runpod.ai/v2/YOUR_ENDPOINT, ENDPOINT_API_KEY and BUCKET_*, the
bucket that the worker writes to. Against `python -m handler serve` its folder's client.env holds them all.

Needs boto3 for the bucket; everything else is Python's own. To use it in your backend, copy the functions.
"""

import argparse
import gzip
import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import IO, Any

import boto3
from botocore.config import Config

Json = dict[str, Any]
POLL_SECONDS = 1.0
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")


class JobFailed(Exception):
    """The job ended without a result.

    Attributes:
        code: e.g. VIDEO_UNREADABLE; every code is in docs/05-errors.md.
        retryable: the same request may succeed later.
    """

    def __init__(self, document: Json) -> None:
        details = document.get("output") or {}
        message = document.get("error") or document["status"]
        super().__init__(message)
        self.code = details.get("error_code") or message.partition(":")[0]
        self.retryable = bool(details.get("retryable", document["status"] == "TIMED_OUT"))


class Endpoint:
    """RunPod's job API, or the same API on one machine.

    Args:
        url: https://api.runpod.ai/v2/YOUR_ENDPOINT, or http://127.0.0.1:8000/v2/local.
        api_key: RunPod's, or SERVE_API_KEY; None where none is needed.
    """

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json", "User-Agent": "hmr2-example-client/1"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def call(self, method: str, path: str, body: Json | None = None) -> Json:
        """One request; its JSON."""
        request = urllib.request.Request(
            f"{self._url}/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers=self._headers,
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            document: Json = json.load(reply)
        return document

    def submit(self, job_input: Json, *, webhook: str | None = None, timeout_seconds: int = 3600) -> str:
        """Queue a job; its id, which stays the same over retries."""
        request: Json = {"input": job_input, "policy": {"executionTimeout": timeout_seconds * 1000}}
        if webhook:
            request["webhook"] = webhook
        return str(self.call("POST", "run", request)["id"])

    def follow(self, job_id: str) -> Iterator[Json]:
        """The job's status documents, one a second, up to the last; `output` is progress, then the reply."""
        while True:
            document = self.call("GET", f"status/{job_id}")
            yield document
            if document["status"] in ENDED:
                return
            time.sleep(POLL_SECONDS)

    def result(self, job_id: str) -> Json:
        """The reply of a job that has ended.

        Raises:
            JobFailed: it has no result.
        """
        document = self.call("GET", f"status/{job_id}")
        if document["status"] != "COMPLETED":
            raise JobFailed(document)
        reply: Json = document["output"]
        return reply


def read_frames(body: IO[bytes]) -> Iterator[Json]:
    """The records of frames.jsonl.gz, one at a time: an hour of video needs no more memory than a second."""
    with gzip.open(body, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def wait_for_webhook(port: int) -> tuple[str, Iterator[Json]]:
    """The address to give as `webhook`, and the calls that arrive there.

    Anyone may call an open address and RunPod signs nothing, so the address holds a secret token. A call may
    come twice, and it repeats the job's input with its presigned URLs: do not log it. Answer 200 at once and
    ask /status for the truth.
    """
    token = secrets.token_urlsafe(16)
    calls: list[Json] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            is_ours = secrets.compare_digest(self.path, f"/done?token={token}")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200 if is_ours else 403)
            self.send_header("Content-Length", "0")
            self.end_headers()
            if is_ours:
                calls.append(json.loads(body))

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", port), Receiver)

    def arriving() -> Iterator[Json]:
        with server:
            while True:
                server.handle_request()
                while calls:
                    yield calls.pop(0)

    return f"http://127.0.0.1:{server.server_port}/done?token={token}", arriving()


def bucket_client(settings: dict[str, str]) -> Any:
    """An S3 client for BUCKET_*; checksums only where they are required, which every S3 service accepts."""
    return boto3.client(
        "s3",
        endpoint_url=settings.get("BUCKET_ENDPOINT_URL"),
        aws_access_key_id=settings.get("BUCKET_ACCESS_KEY_ID"),
        aws_secret_access_key=settings.get("BUCKET_SECRET_ACCESS_KEY"),
        region_name=settings.get("BUCKET_REGION"),
        config=Config(signature_version="s3v4", request_checksum_calculation="when_required"),
    )


def main() -> int:
    """Run one job and print what came out of it."""
    arguments = _arguments()
    settings = dict(os.environ)  # noqa: TID251 - a program of its own
    if arguments.env:
        lines = arguments.env.read_text().splitlines()
        settings |= dict(line.split("=", 1) for line in lines if "=" in line)
    endpoint = Endpoint(settings["ENDPOINT_URL"], settings.get("ENDPOINT_API_KEY"))
    s3, bucket = bucket_client(settings), settings["BUCKET_NAME"]

    video_url = arguments.video
    if "://" not in video_url:
        key = f"videos/{secrets.token_hex(8)}/{Path(video_url).name}"
        s3.upload_file(video_url, bucket, key)
        video_url = s3.generate_presigned_url(
            "get_object", {"Bucket": bucket, "Key": key}, ExpiresIn=6 * 3600
        )
    job_input = {"video_url": video_url, "options": json.loads(arguments.options)}

    webhook, calls = wait_for_webhook(arguments.webhook_port) if arguments.webhook else (None, None)
    job_id = endpoint.submit(job_input, webhook=webhook)
    print(f"job {job_id}")
    if calls is not None:
        next(call for call in calls if call["id"] == job_id)
        print("webhook called")
    else:
        shown = ""
        for document in endpoint.follow(job_id):
            line = f"{document['status']} {_progress(document)}"
            if line != shown:
                print(line, flush=True)
                shown = line
    try:
        reply = endpoint.result(job_id)
    except JobFailed as failure:
        print(f"failed: {failure} ({'try again later' if failure.retryable else 'do not retry as it is'})")
        return 1

    keys = {artifact["kind"]: artifact["key"] for artifact in reply["artifacts"]}
    summary = json.load(s3.get_object(Bucket=reply["bucket"], Key=keys["result.json"])["Body"])
    seen: dict[int, int] = {}
    with closing(s3.get_object(Bucket=reply["bucket"], Key=keys["frames.jsonl.gz"])["Body"]) as body:
        for frame in read_frames(body):
            for person in frame["people"]:
                seen[person["track_id"]] = seen.get(person["track_id"], 0) + 1
    print(f"{reply['frames']} frames, {reply['people']} people, models: {summary['models']['models']}")
    for track_id, count in sorted(seen.items()):
        print(f"person {track_id}: in {count} frames")
    for warning in reply["warnings"]:
        print(f"warning {warning['code']}: {warning['message']}")
    return 0


def _progress(document: Json) -> str:
    progress = document.get("output") or {}
    if document["status"] != "IN_PROGRESS" or "stage" not in progress:
        return ""
    total = progress["frames_total"]
    return f"{progress['stage']} {progress['frames_done']}/{'?' if total is None else total} frames"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", help="a presigned URL, or a local file, which is uploaded first")
    parser.add_argument("--env", type=Path, help="file with ENDPOINT_URL and BUCKET_*")
    parser.add_argument("--options", default="{}", help="job options as JSON, e.g. '{\"end_s\": 2}'")
    parser.add_argument("--webhook", action="store_true", help="wait for the webhook instead of polling")
    parser.add_argument("--webhook-port", type=int, default=0, help="where to wait for it")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except urllib.error.HTTPError as error:
        sys.exit(f"the endpoint answered {error.code}: {error.read().decode(errors='replace')[:500]}")

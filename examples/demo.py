"""The whole system on this machine, from a video to results you can look at: `make demo [VIDEO=my.mp4]`.

Starts the endpoint with its worker and storage, uploads the video, submits it by a presigned URL, shows the
progress, receives the webhook, fetches the results, and, for the clip in this folder, whose truth is known,
says how right they are. Everything runs on loopback and ends with this program.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from examples.python_client import (
    Endpoint,
    EndpointError,
    JobFailed,
    WebhookReceiver,
    bucket_client,
    read_frames,
)

CLIP = Path(__file__).parent / "four_people.mp4"
START_SECONDS = 120  # for endpoint and storage; the worker loads its models meanwhile
WEBHOOK_SECONDS = 30
# For the shipped clip, which is small; other videos get PHALP's own settings. See docs/15-lite-models.md.
TRACKING = {
    "phalp.small_w": 25,
    "phalp.small_h": 60,
    "phalp.hungarian_th": 200,
    "phalp.max_age_track": 125,
    "phalp.predict": "TP",
}
# What the shipped clip must reach with the lite models; a swapped left and right or a shifted crop does not.
FLOORS = {"recall": 0.85, "precision": 0.9, "idf1": 0.9}
CEILINGS = {"mpjpe_mm": 110.0, "pa_mpjpe_mm": 60.0}

Json = dict[str, Any]
say = Console(highlight=False)


def main() -> int:
    """Run the demo; 0 if it went well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", nargs="?", type=Path, default=CLIP)
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for the results")
    parser.add_argument("--data", type=Path, default=Path("var/demo"), help="folder of the endpoint")
    parser.add_argument("--models", default="auto", help="auto, official or lite")
    arguments = parser.parse_args()
    if not arguments.video.is_file():
        sys.exit(f"there is no file {arguments.video}")
    say.print("[bold]1[/] starting endpoint, storage and worker")
    with serving(arguments.data, arguments.models) as settings:
        say.print(f"  the job API is at {settings['ENDPOINT_URL']}")
        reply = run_job(arguments.video, settings)
        say.print("[bold]4[/] fetching the results")
        fetch(reply, settings, arguments.out)
    return report(reply, arguments.video, arguments.out)


@contextmanager
def serving(data: Path, models: str) -> Iterator[dict[str, str]]:
    """The endpoint of this machine while the block runs, on free ports; gives a client's settings."""
    data.mkdir(parents=True, exist_ok=True)
    (data / "client.env").unlink(missing_ok=True)
    command = [sys.executable, "-m", "handler", "serve", "--data", data, "--models", models]
    with (data / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", "0", "--storage-port", "0"], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (data / "client.env").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the endpoint did not start; see {data / 'serve.log'}")
            time.sleep(0.1)
        lines = (data / "client.env").read_text().splitlines()
        yield dict(line.split("=", 1) for line in lines)
    finally:
        process.terminate()
        process.wait(timeout=60)


def run_job(video: Path, settings: dict[str, str]) -> Json:
    """Upload, submit, follow, and wait for the webhook; the reply."""
    endpoint = Endpoint(settings["ENDPOINT_URL"], settings.get("ENDPOINT_API_KEY"))
    s3, bucket = bucket_client(settings), settings["BUCKET_NAME"]
    s3.upload_file(str(video), bucket, f"videos/{video.name}")
    url = s3.generate_presigned_url(
        "get_object", {"Bucket": bucket, "Key": f"videos/{video.name}"}, ExpiresIn=3600
    )
    receiver = WebhookReceiver()
    options = {"artifacts": ["overlay.mp4"], "tracking": TRACKING if is_shipped(video) else {}}
    job = {"video_url": url, "options": options}
    job_id = endpoint.submit(job, webhook=receiver.url)
    is_called = receiver.expect(job_id)
    say.print(f"[bold]2[/] submitted {video.name} by a presigned URL: job {job_id}")
    document = show_progress(endpoint, job_id)
    if document["status"] != "COMPLETED":
        failure = JobFailed(document)
        sys.exit(f"the job failed: {failure}\nwhat to do: {failure.advice}")
    if not is_called.wait(WEBHOOK_SECONDS):
        sys.exit("the webhook was not called")
    say.print("[bold]3[/] the webhook was called")
    reply: Json = document["output"]
    return reply


def show_progress(endpoint: Endpoint, job_id: str) -> Json:
    """A bar until the job ends; its last status document."""
    columns = (
        TextColumn("  {task.description:12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=say) as progress:
        bar = progress.add_task("waiting", total=None)
        for document in endpoint.follow(job_id):
            update = document.get("output") or {}
            if document["status"] == "IN_PROGRESS" and "stage" in update:
                progress.update(
                    bar,
                    description=update["stage"],
                    completed=update["frames_done"],
                    total=update["frames_total"],
                )
        progress.update(bar, description=document["status"].lower())
    return document


def fetch(reply: Json, settings: dict[str, str], out: Path) -> None:
    """Download every artifact of a job."""
    out.mkdir(parents=True, exist_ok=True)
    s3 = bucket_client(settings)
    for artifact in reply["artifacts"]:
        s3.download_file(reply["bucket"], artifact["key"], str(out / artifact["kind"]))


def report(reply: Json, video: Path, out: Path) -> int:
    """Say what came out, and for the shipped clip how right it is."""
    summary = json.loads((out / "result.json").read_bytes())
    with (out / "frames.jsonl.gz").open("rb") as body:
        num_frames = sum(1 for _ in read_frames(body))
    say.print(
        f"  {num_frames} frames, {reply['people']} people, {reply['fps']} frames/s with the "
        f"{summary['models']['models']} models"
    )
    good = True
    if is_shipped(video):
        say.print("[bold]5[/] against the truth of this clip")
        good = check(out)
    say.print("[bold]look at[/]")
    say.print(f"  {out / 'overlay.mp4'}: bodies, boxes and identities on the video")
    say.print(f"  {out / 'result.json'}: what was made, by which models, in which units (docs/03-output.md)")
    say.print(f"  {out / 'frames.jsonl.gz'}: one line per frame: zcat {out / 'frames.jsonl.gz'} | head -1")
    if summary["models"]["notice"]:
        say.print(f"[dim]{summary['models']['notice']}[/]")
    return 0 if good else 1


def is_shipped(video: Path) -> bool:
    """Whether it is the clip whose truth is known."""
    return video.resolve() == CLIP.resolve()


def check(out: Path) -> bool:
    """Print the scores of the shipped clip; whether all of them are as they should be."""
    from benchmarks.result_accuracy import score_result

    scores = score_result(out, CLIP)
    rows = [(name, getattr(scores, name), ">=", floor) for name, floor in FLOORS.items()]
    rows += [(name, getattr(scores, name), "<=", ceiling) for name, ceiling in CEILINGS.items()]
    good = True
    for name, value, relation, limit in rows:
        passed = value >= limit if relation == ">=" else value <= limit
        mark = "[green]ok[/]" if passed else "[red]NO[/]"
        say.print(f"  {mark}  {name:12} {value:7.3f}   wanted {relation} {limit}")
        good &= passed
    say.print(
        f"      identity switches {scores.switches}, joints in the picture off by {scores.pixels:.1f} px"
    )
    return good


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EndpointError as error:
        sys.exit(str(error))

"""The example clients against a real endpoint: submit, follow or be called, read the frames as a stream."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from handler.job import JobInput
from ops.endpoint.api import RunRequest
from tests.end_to_end.conftest import LONG_FRAMES, SHORT_FRAMES, System
from tests.end_to_end.scripted_endpoint import Answer, scripted_endpoint

pytestmark = pytest.mark.timeout(180)
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TYPESCRIPT = EXAMPLES / "typescript"


def clip_for(*, by_webhook: bool) -> str:
    """Polling once a second sees progress of the long clip only."""
    return "short" if by_webhook else "long"


def check_output(text: str, *, by_webhook: bool) -> None:
    """What a client prints about its clip."""
    lines = text.splitlines()
    assert re.fullmatch(r"uploaded \S+clip.mp4 as videos/[0-9a-f-]+/clip.mp4 to the bucket \S+", lines[0])
    assert lines[1].startswith("job ")
    num_frames = SHORT_FRAMES if by_webhook else LONG_FRAMES
    assert f"{num_frames} frames, 2 people, models: lite" in lines
    assert f"person 1: in {num_frames} frames" in lines
    assert "COMPLETED" in lines
    if not by_webhook:
        counts = [int(count) for count in re.findall(r"track (\d+)/", text)]
        assert counts == sorted(counts)
        assert counts, "no progress was shown"


@pytest.fixture(scope="module")
def typescript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the compiled client and its tests; compiling checks types, the generated ones too."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("typescript")
    for file in [*TYPESCRIPT.glob("*.*"), Path(__file__).parent / "typescript_client.test.ts"]:
        shutil.copy(file, folder)
    install = _run(["npm", "ci", "--no-audit", "--no-fund"], folder=folder)
    if install.returncode != 0:
        pytest.skip(f"the TypeScript compiler cannot be installed: {install.stderr[-300:]}")
    build = _run(["npm", "run", "build"], folder=folder)
    assert build.returncode == 0, build.stdout
    return folder


@pytest.fixture(params=["python", pytest.param("typescript", marks=pytest.mark.slow)])
def client(request: pytest.FixtureRequest) -> list[str]:
    """The command of each client."""
    if request.param == "python":
        return [sys.executable, str(EXAMPLES / "python_client.py")]
    return ["node", str(request.getfixturevalue("typescript") / "dist" / "main.js")]


@pytest.mark.parametrize("by_webhook", [False, True], ids=["polling", "webhook"])
def test_client_runs_a_job(system: System, client: list[str], tmp_path: Path, by_webhook: bool) -> None:
    """A local file is uploaded, its job followed to the end, and the frames are read back from the bucket."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(system.store.get(f"videos/{clip_for(by_webhook=by_webhook)}.mp4"))
    done = _run([*client, str(clip), *(["--webhook"] if by_webhook else [])], **system.endpoint.client)
    assert done.returncode == 0, done.stderr
    check_output(done.stdout, by_webhook=by_webhook)
    for key in re.findall("stored (.*) in the bucket", done.stdout):
        assert system.store.get(key)
    if by_webhook:
        (job_id,) = re.findall("job (.*)", done.stdout)
        (call,) = (
            line for line in system.endpoint.log.read_text().splitlines() if f"job_id={job_id}" in line
        )
        assert "called a webhook" in call
        assert "outcome='HTTP 200'" in call


def test_client_says_why_a_job_failed(system: System, client: list[str], tmp_path: Path) -> None:
    """The code, what to do, and an exit code that tells not to try again."""
    clip = tmp_path / "clip.mp4"
    clip.write_text("no video")
    done = _run([*client, str(clip)], **system.endpoint.client)
    assert done.returncode == 1
    assert "failed: VIDEO_UNREADABLE" in done.stderr
    assert "what to do: check that the file is a video" in done.stderr


def test_client_cancels_its_job_on_ctrl_c(system: System, client: list[str]) -> None:
    """Nobody pays for a job whose caller has gone."""
    link = system.store.presign("get_object", "videos/long.mp4")
    with subprocess.Popen(
        [*client, link], env=_environment(system.endpoint.client), stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        job_id = running.stdout.readline().removeprefix("job ").strip()
        running.stdout.readline()
        running.send_signal(signal.SIGINT)
        running.stdout.read()
    assert running.returncode == 130
    assert system.endpoint.status(job_id)["status"] == "CANCELLED"


CLIENT = {"BUCKET_NAME": "b", "BUCKET_ACCESS_KEY_ID": "k", "BUCKET_SECRET_ACCESS_KEY": "hidden"}


@pytest.mark.parametrize(
    ("words", "settings", "code", "message"),
    [
        (["nothing.mp4"], {}, 2, "there is no file nothing.mp4"),
        (["."], {}, 2, "there is no file ."),
        (["https://a/b", "--options", "{"], {}, 2, "--options: "),
        (["https://a/b", "--options", "null"], {}, 2, "JSON object"),
        (["https://a/b", "--webhook", "--webhook-port={taken}"], {}, 2, "ddress already in use"),
        (["https://a/b"], {"BUCKET_NAME": " ", "ENDPOINT_URL": ""}, 2, "not set: ENDPOINT_URL, BUCKET_NAME;"),
        (["https://a/b"], {"ENDPOINT_URL": "127.0.0.1:8000"}, 2, "ENDPOINT_URL must begin with https:// or"),
        (["https://a/b"], {"ENDPOINT_API_KEY": "hidden…"}, 2, "ENDPOINT_API_KEY holds a character that"),
        (
            ["https://a/b"],
            {"ENDPOINT_URL": "http://127.0.0.1:{free}/v2/e"},
            3,
            "nothing answers at http://127",
        ),
    ],
    ids=[
        "no file",
        "a folder",
        "not JSON",
        "no object",
        "busy port",
        "not set",
        "no address",
        "odd key",
        "refused",
    ],
)
def test_client_tells_what_is_wrong_in_a_sentence(
    client: list[str], words: list[str], settings: dict[str, str], code: int, message: str
) -> None:
    """Before any work, without a traceback, and without a secret."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        free = once.getsockname()[1]
    with scripted_endpoint(500) as server:
        settings = {name: value.replace("{free}", str(free)) for name, value in settings.items()}
        words = [word.replace("{taken}", server.url.split(":")[2].split("/")[0]) for word in words]
        done = _run([*client, *words], **{"ENDPOINT_URL": server.url, **CLIENT, **settings})
    assert (done.returncode, done.stdout, server.calls) == (code, "", [])
    assert message in done.stderr
    assert "hidden" not in done.stderr
    if "--options" not in words:  # argparse shows the usage too
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("answers", "code", "messages"),
    [
        (
            [503, {"id": "j"}, None, {"status": "TIMED_OUT"}],
            1,
            ["failed: TIMED_OUT", "what to do: give the job"],
        ),
        ([{"id": "j"}, 404], 2, ["/status/j answered 404: told to refuse"]),
        ([None], 3, ["nothing answers at"]),
    ],
    ids=["timed out", "deleted", "cut off"],
)
def test_client_tells_every_ending(
    client: list[str], answers: list[Answer], code: int, messages: list[str]
) -> None:
    """Also of a platform that says no more than the state; refusals that may pass are tried again."""
    with scripted_endpoint(*answers) as server:
        done = _run([*client, "https://a/b"], **CLIENT, ENDPOINT_URL=server.url)
    assert done.returncode == code, done.stderr
    assert len(server.calls) == len(answers)
    for message in messages:
        assert message in done.stderr
    assert len(done.stderr.splitlines()) == len(messages)


def test_python_client_names_a_settings_file_that_is_not_there() -> None:
    """The file of `serve`, before `serve` has run."""
    done = _run([sys.executable, str(EXAMPLES / "python_client.py"), "clip.mp4", "--env", "no/client.env"])
    assert done.returncode == 2
    assert (
        done.stderr == "there is no file no/client.env; `python -m handler serve` writes it when it starts\n"
    )


@pytest.mark.slow
def test_typescript_client_survives_what_misbehaves(typescript: Path) -> None:
    """Its own tests: failed polls, time limits, retries, uploads, and calls of its webhook."""
    done = _run(["node", "--test", "dist/"], folder=typescript)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_typescript_refuses_put_urls_without_their_files(typescript: Path) -> None:
    """A compile error that names the file; so is a misspelt option."""
    (typescript / "wrong.ts").write_text("""
import type { JobInput } from "./hmr2.d.ts";
const one: JobInput = { video_url: "https://a/b", output: { put_urls: { "result.json": "https://a/r" } } };
const two: JobInput = { video_url: "https://a/b", options: { strid: 2 } };
console.log(one, two);
""")
    build = _run(["npx", "tsc", "--noEmit"], folder=typescript)
    (typescript / "wrong.ts").unlink()
    assert build.returncode != 0
    assert "Property '\"frames.jsonl.gz\"' is missing" in build.stdout
    assert "'strid' does not exist" in build.stdout


def test_example_request_is_valid() -> None:
    """What people copy is accepted by the endpoint and by the worker."""
    request = json.loads((EXAMPLES / "request.json").read_text())
    JobInput.model_validate(RunRequest.model_validate(request).input)


def _run(command: list[str], *, folder: Path = ROOT, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = _environment(settings)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=170
    )


def _environment(settings: dict[str, str]) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - for a child
        if not name.startswith(("BUCKET_", "ENDPOINT_"))
    }
    return {**inherited, **settings}

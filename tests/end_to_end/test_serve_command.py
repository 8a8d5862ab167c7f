"""`python -m handler serve` as people type it."""

import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from ops.endpoint import CannotServe
from ops.endpoint.serve import ServeOptions, run
from ops.endpoint.settings import ServeSettings
from tests.end_to_end.endpoint_process import EndpointProcess, serving
from tests.video_factory import make_video


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7"])
def test_open_address_needs_a_key(tmp_path: Path, host: str) -> None:
    """Whoever reaches the endpoint could run jobs; nothing is started."""
    with pytest.raises(CannotServe, match="SERVE_API_KEY"):
        run(ServeOptions(data=tmp_path / "data", host=host), ServeSettings(api_key=None))
    assert not (tmp_path / "data").exists()


def test_nobody_gets_in_without_the_key(tmp_path: Path) -> None:
    """Callers need theirs, with or without `Bearer`, and workers theirs; RunPod answers 401 too."""
    with serving(tmp_path / "data", 0, SERVE_API_KEY="open-sesame") as endpoint:
        worker_key = (endpoint.data / "worker.key").read_text()
        assert endpoint.call("GET", "health").status_code == 200
        for path, key, status in (
            ("health", "", 401),
            ("health", "Bearer wrong", 401),
            ("health", "open-sesame", 200),
            ("job-take/w?gpu=x", "Bearer open-sesame", 401),
            ("ping/w?gpu=x", worker_key, 200),
        ):
            assert endpoint.call("GET", path, headers={"Authorization": key}).status_code == status, path
        assert httpx2.get(f"{endpoint.url}/health").status_code == 401


def test_folder_and_address_in_use_are_told(tmp_path: Path) -> None:
    """Exit code 1 and one sentence, no traceback; the endpoint that runs is not disturbed."""
    with serving(tmp_path / "data", 0) as endpoint:
        with pytest.raises(CannotServe, match="another endpoint uses the folder"):
            run(ServeOptions(data=tmp_path / "data"), ServeSettings())
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            arguments = ["serve", "--data", str(tmp_path / "other"), "--port", port, "--storage-port", "0"]
            done = subprocess.run(
                [sys.executable, "-m", "handler", *arguments], capture_output=True, text=True, check=False
            )
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == (
            f"error: cannot listen on 127.0.0.1:{port}: another program listens there, perhaps an endpoint; "
            "stop it, or take another port with --port"
        )
        assert "Traceback" not in done.stderr
        assert endpoint.health()["workers"]["ready"] == 0


@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        ({"port": 8000, "storage_port": 8000}, {}, r"--port and --storage-port are both 8000"),
        (
            {"data": Path("/dev/null/data")},
            {},
            r"/dev/null/data \(--data\) cannot be used: it is not a folder",
        ),
        ({"host": "name.invalid"}, {"SERVE_API_KEY": "key"}, r"--host must be an address of this machine"),
        ({}, {"WORKER_SCRATCH": "/dev/null"}, r"WORKER_SCRATCH=/dev/null is not a folder"),
        ({}, {"BUCKET_NAME": "results"}, r"set BUCKET_ACCESS_KEY_ID, BUCKET_SECRET_ACCESS_KEY as well"),
        ({}, {"DETECTOR": "yolo"}, r"DETECTOR=yolo: there is no such detector\. Use one of "),
        ({}, {"BODY_REGRESSOR": "hmr3"}, r"BODY_REGRESSOR=hmr3: there is no such body regressor"),
        (
            {"models": "official"},
            {},
            r"weights are not complete: run `python -m handler weights fetch`\n- hmr2",
        ),
    ],
    ids=["ports", "data", "host", "scratch", "bucket", "detector", "regressor", "weights"],
)
def test_nothing_is_started_that_cannot_work(tmp_path, monkeypatch, options, environment, words) -> None:
    """What would end every worker at its start, again and again, is told once, with the name to change."""
    for name, value in {"MODEL_STORE": str(tmp_path / "store"), **environment}.items():
        monkeypatch.setenv(name, value)
    chosen = {"data": tmp_path / "data", "port": 0, "storage_port": 0, **options}
    with pytest.raises(CannotServe, match=words):
        run(ServeOptions(**chosen))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_command_serves_the_lite_models(tmp_path: Path) -> None:
    """The command, its real worker and the bundled models, from a video on its own store to its result."""
    arguments = [sys.executable, "-m", "handler", "serve", "--data", str(tmp_path / "data")]
    arguments += ["--port", "{port}", "--storage-port", "0", "--models", "lite"]
    clip = make_video(tmp_path / "clip.mp4", num_frames=6)
    client = Path(__file__).parents[2] / "examples" / "python_client.py"
    with EndpointProcess(tmp_path / "data", arguments, WORKER_BATCH_FRAMES="2") as endpoint:
        settings = str(endpoint.start().data / "client.env")
        done = subprocess.run(
            [sys.executable, str(client), str(clip), "--env", settings],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr + endpoint.log.read_text()
        assert "6 frames, 0 people, models: lite" in done.stdout
        assert "warning NO_PEOPLE" in done.stdout
        assert endpoint.stop() == 0

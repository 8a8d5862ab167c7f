"""The Dockerfile's own commands, executed in folders of the test, and the worker that comes out of them.

A container's walls are stood in for by what the system offers: another user, a network that is only loopback.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from transformers import RfDetrForInstanceSegmentation

from tests.contract.fake_queue import FakeQueue
from tests.image.recipe import copy_context, environment, shell_script, values
from tests.model_cache.rf_detr_network import tiny_config
from tests.no_authorities import know_the_machines
from tests.video_factory import make_video

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
NOBODY = 65534
NEEDED_BYTES = 10 * 1024**3  # the tree takes 2 GB, and others may run beside us


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The image's tree in a folder."""

    root: Path

    @property
    def home(self) -> Path:
        """The worker's home, outside the checkout."""
        return self.root / "home"

    def environment(self, **more: str) -> dict[str, str]:
        """The image's own environment, with its paths below the root."""
        own = environment("runtime")
        path = own.pop("PATH").replace("/opt/", f"{self.root}/opt/").replace("${PATH}", "/usr/bin:/bin")
        own["MODEL_STORE"] = str(self.root / "models")
        scratch = {"WORKER_SCRATCH": str(self.home / "scratch"), "VIDEO_RESERVE_DISK_BYTES": "0"}
        return {"PATH": path, "HOME": str(self.home), "OMP_NUM_THREADS": "1", **own, **scratch, **more}

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A command as another user, with loopback for a network; as we are where that is not allowed."""
        return subprocess.run(
            [*walls(), *words],
            cwd=self.home,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=300,
        )


def walls() -> list[str]:
    """A prefix that puts a command behind a container's walls, as far as this machine lets us."""
    if os.geteuid() != 0:
        return []
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs", "--"]
    network = ["unshare", "--net", "--"]
    allowed = subprocess.run([*network, *user, "true"], capture_output=True).returncode == 0
    return [*network, *user] if allowed else user


def roomy_folder() -> str | None:
    """Memory, where there is plenty: a slow disk takes minutes for the image's 40,000 files. Else None."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or os.statvfs(memory).f_flag & os.ST_NOEXEC:
        return None
    free = min(shutil.disk_usage(memory).free, psutil.virtual_memory().available)
    return str(memory) if free > NEEDED_BYTES else None


def python_for_everyone(root: Path) -> Path:
    """This Python, or a copy of it if it lives where other users may not look (in root's home, say)."""
    python = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]  # no public name leads out of a venv
    if all(folder.stat().st_mode & 0o001 for folder in python.parents):
        return python
    left_out = shutil.ignore_patterns("site-packages", "test", "tests", "__pycache__")
    shutil.copytree(sys.base_prefix, root / "python", symlinks=True, ignore=left_out)
    return root / "python" / python.relative_to(Path(sys.base_prefix).resolve())


def build(root: Path) -> None:
    """Executes the build stage below a folder, with torch's CPU build."""
    (root / "bin").mkdir()
    (root / "bin" / "python").symlink_to(python_for_everyone(root))
    script = shell_script("build").replace("UV_LINK_MODE=copy", "UV_LINK_MODE=hardlink")  # a gigabyte less
    for place in ("/opt/", "/src", "/dist"):
        assert place in script
        script = script.replace(place, f"{root}{place}")
    given = know_the_machines(os.environ)  # noqa: TID251 - where packages come from is the machine's matter
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"):
        given.pop(name, None)
    given |= {"TORCH": "cpu", "CONTEXT": str(copy_context(root / "context"))}
    given["PATH"] = f"{root}/bin:{given['PATH']}"
    if "PIP_FIND_LINKS" in given:  # a folder with torch's CPU build
        given["TORCH_SOURCE"] = f"--find-links {given['PIP_FIND_LINKS']}"
    done = subprocess.run(["sh", "-euc", script], cwd=root, env=given, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    """The image's tree, made once for all tests."""
    # Not in pytest's own folders, which are closed to other users.
    root = Path(tempfile.mkdtemp(prefix="image-", dir=roomy_folder()))
    try:
        root.chmod(0o755)
        build(root)
        tree = Installed(root=root)
        tree.home.mkdir()
        (root / "models").mkdir()
        if os.geteuid() == 0:
            os.chown(tree.home, NOBODY, NOBODY)
        yield tree
    finally:
        shutil.rmtree(root)


def test_installed_worker_is_fit_without_network_or_root(installed: Installed) -> None:
    """The fitness checks pass from the installed tree, with the bundled models, as nobody and offline."""
    where = installed.run("python", "-c", "import handler, model_cache; print(handler.__file__)")
    done = installed.run("python", "-m", "handler", "fitness", MODELS="lite")

    assert where.stdout.startswith(str(installed.root / "opt" / "venv"))
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.splitlines()[-1] == "fit, with the lite models on cpu"


def test_installed_worker_refuses_to_start_without_official_weights(installed: Installed) -> None:
    """As built, without weights, the image is unfit and says what to do; it never falls back in silence."""
    done = installed.run("python", "-m", "handler", "fitness", MODEL_STORE=str(installed.home / "nothing"))

    assert done.returncode == 1
    assert "unfit: the official weights are not complete" in done.stderr


def test_weights_are_fetched_at_build_time_from_a_secret(
    installed: Installed, official_tiny_files: Path, tmp_path: Path
) -> None:
    """WEIGHTS=fetch fills the store from the sources in the secret; the official models answer from it."""
    detector = tmp_path / "detector"
    RfDetrForInstanceSegmentation(tiny_config()).save_pretrained(detector)
    secret = tmp_path / "weights"
    secret.write_text(
        f"WEIGHTS_MIRROR='{official_tiny_files}'\n"
        f"WEIGHTS_DETECTOR_CONFIG='{detector}/config.json'\n"
        f"WEIGHTS_DETECTOR_WEIGHTS='{detector}/model.safetensors'\n"
        "WEIGHTS_OFFICIAL_HOSTS=false\n"
    )
    script = shell_script("weights-fetch").replace("/run/secrets/weights", str(secret))
    for place in ("/opt/", "/models"):
        script = script.replace(place, f"{installed.root}{place}")
    own = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}

    built = subprocess.run(["sh", "-euc", script], env=own, capture_output=True, text=True)
    done = installed.run("python", "-m", "handler", "fitness", MODEL_PRECISION="bf16")

    assert built.returncode == 0, built.stderr[-4000:]
    assert not list((installed.root / "models").rglob("*.ckpt"))
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.splitlines()[-1] == "fit, with the official models on cpu"


def test_installed_tree_does_a_whole_job_offline(installed: Installed) -> None:
    """Decoding, networks, tracking, results and overlay: nothing is missing and nothing is fetched."""
    clip = make_video(installed.root / "clip.mp4", num_frames=12, fps=12, size=(192, 144))

    done = installed.run(
        *("python", "-m", "handler", "track", str(clip)),
        *("--out", str(installed.home / "out"), "--models", "lite"),
    )

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    names = {path.name for path in (installed.home / "out").rglob("*") if path.is_file()}
    assert {"frames.jsonl.gz", "result.json"} <= names


def test_installed_tree_has_no_tools_and_nothing_of_the_checkout(installed: Installed) -> None:
    """What leaves the build stage has no installer, no tests, and no CUDA library with the CPU build."""
    packages = {path.name for path in (installed.root / "opt/venv/lib/python3.11/site-packages").iterdir()}

    assert packages & {"pip", "uv", "pytest", "tests", "training", "benchmarks", "nvidia", "triton"} == set()
    assert {"handler", "model_cache", "torch", "runpod"} <= packages


def test_image_command_serves_the_queue(installed: Installed) -> None:
    """CMD as it stands: fit, it asks for a job, answers one with a code, and leaves at SIGTERM."""
    (words,) = values("runtime", "CMD")
    with FakeQueue() as queue:
        more = queue.environment() | {"MODELS": "lite"}
        log = (installed.home / "worker.log").open("wb")
        user = walls()[walls().index("setpriv") :] if walls() else []  # the queue is on our own loopback
        worker = subprocess.Popen(
            [*user, *json.loads(words)],
            cwd=installed.home,
            env=installed.environment(**more),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            queue.wait(lambda: queue.open["job-take"] or worker.poll() is not None, 180)
            queue.submit("wrong", {})
            body = queue.result("wrong", 60)
            worker.send_signal(signal.SIGTERM)
            code = worker.wait(30)
        finally:
            worker.kill()
            worker.wait()
            log.close()

    assert body["output"]["error_code"] == "INPUT_INVALID"
    assert code == 0
    assert (installed.home / "worker.log").read_text().count("worker is ready") == 1

"""Every snippet of README.md and docs/ as it stands there: parsed by the default tests, run by the slow ones.

`<!-- checked, not run: why -->` before a block keeps it from being run; it is parsed all the same. A page's
shell blocks run in order in a clean copy of this project, as `bash -e` runs them, with the lite models.
"""

import ast
import gzip
import importlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from typer.core import TyperGroup

from benchmarks.accuracy_scores import box_iou, match
from benchmarks.clip_truth import read_truth
from handler.job import ErrorReply, JobInput, ProgressMessage, Reply
from handler.results.document import FrameRecord
from ops.command_line import app
from ops.deploy.deploy_file import read_deploy_file
from ops.endpoint.api import RunRequest
from ops.environment import unknown_settings, wrong_values
from ops.overrides import parse_overrides
from tests.handler.results.test_golden import FRAMES
from tests.ops.deploy.fake_rest import KEY, FakeRest, serving
from tests.video_factory import make_video
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"bash", "python", "typescript", "json", "yaml", "dockerfile", "text"}
NOT_RUN = re.compile(r"^<!-- checked, not run: .+ -->$", re.MULTILINE)
SAVED_AS = re.compile(r"Save this as `(\w+\.py)`")
# What stands for a value of the reader's own, as `NAME=...`.
OWN = {"RUNPOD_API_KEY": KEY, "BUCKET_NAME": "results", "BUCKET_ENDPOINT_URL": "https://s3.example.com"}
PROGRAMS = {".", "set", "export", "aws", "docker push"}  # of which no more is known here than that they parse
LONGEST_EXAMPLE = 60  # lines
SAME_PERSON = 0.4  # overlap of boxes; those of histograms are rough


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page; `before` is the last line of text above it."""

    page: Path
    line: int
    language: str
    text: str
    before: str

    @property
    def runs(self) -> bool:
        return not NOT_RUN.fullmatch(self.before)

    @property
    def name(self) -> str:
        return f"{self.page.stem}_{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        above = [line for line in text[: found.start()].splitlines() if line]
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page=page, line=line, language=found[1], text=found[2], before=above[-1])


def all_blocks(language: str, *, run_alone: bool = False) -> Any:
    """For parametrize: the blocks in one language of every page, or those that can be run by themselves."""
    found = [
        block
        for page in PAGES
        for block in blocks(page)
        if block.language == language
        if not run_alone or (block.runs and not SAVED_AS.search(block.before))
    ]
    return pytest.mark.parametrize("block", found, ids=[block.name for block in found])


def every_page(*, slow: bool) -> Any:
    """For parametrize: the pages with shell blocks to run, or all of them."""
    chosen = [
        page
        for page in PAGES
        if not slow or any(block.runs and block.language == "bash" for block in blocks(page))
    ]
    return pytest.mark.parametrize("page", chosen, ids=[page.stem for page in chosen])


# --- parsed


@every_page(slow=False)
def test_blocks_are_of_a_known_language(page: Path) -> None:
    """Otherwise nothing here would look at them."""
    text = page.read_text()
    assert [block.line for block in blocks(page) if block.language not in LANGUAGES] == []
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(list(blocks(page)))
    assert len(NOT_RUN.findall(text)) == sum(not block.runs for block in blocks(page))


@all_blocks("bash")
def test_shell_parses_and_names_what_exists(block: Block) -> None:
    """The programs, options, settings, files and targets of every command."""
    parsed = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr
    assert list(faults(block.text)) == []


@every_page(slow=False)
def test_commands_in_the_text_exist(page: Path) -> None:
    """So do those between backticks."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`((?:python|make|hmr2-worker|[A-Z_]+=\S+ python) ?[^`]*)`", prose)
    assert [fault for span in spans for fault in faults(span, whole=False)] == []


@every_page(slow=False)
def test_links_and_files_exist(page: Path) -> None:
    """Links to files and headings, and the paths of this repository between backticks."""
    text = page.read_text()
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if heading else []
        anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
        assert not heading or heading in anchors, link
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != ".")
    for path in re.findall(rf"`((?:{folders})/[\w./*-]+)`", text):
        assert list(ROOT.glob(path.rstrip("/"))), path


@all_blocks("python")
def test_python_compiles_and_its_imports_exist(block: Block) -> None:
    """Imports of packages that are not installed must be of an extra."""
    extras = (ROOT / "pyproject.toml").read_text()
    for node in ast.walk(ast.parse(block.text)):
        for module in [alias.name for alias in node.names] if isinstance(node, ast.Import) else []:
            assert importlib.util.find_spec(module) or f'"{module}' in extras, module
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@all_blocks("typescript")
def test_typescript_imports_exist(block: Block) -> None:
    """They are read from the folder of the TypeScript client."""
    for name in re.findall(r'from "\./(.+?)"', block.text):
        assert (ROOT / "examples" / "typescript" / name).is_file(), name


@all_blocks("yaml")
def test_yaml_is_a_deploy_file(block: Block, tmp_path: Path) -> None:
    """The only YAML that this project reads."""
    (tmp_path / "deploy.yaml").write_text(block.text)
    for profile in (None, *yaml.safe_load(block.text).get("profiles", {})):
        read_deploy_file(tmp_path / "deploy.yaml", profile)


@all_blocks("json")
def test_json_is_what_the_worker_says(block: Block) -> None:
    """Each is an example of one of our documents; `, ...` stands for what was left out."""
    document = json.loads(re.sub(r",\s*\.\.\.", "", block.text))
    if "people" in document and "frame" in document:
        fields = {info.alias or name for name, info in FrameRecord.model_fields.items()}
        assert document.keys() <= fields
    elif "stage" in document:
        ProgressMessage.model_validate(document)
    elif "artifacts" in document:
        assert Reply.model_validate(document).model_dump().keys() == document.keys()
    elif "error" in document:
        ErrorReply.model_validate({"error": document["error"], **document["output"]})
    else:
        assert document.keys() == {"Rules"}  # of a bucket


def faults(text: str, *, whole: bool = True) -> Iterator[str]:
    """What is wrong with the commands of a shell text; `whole` if their arguments are all there."""
    text = re.sub(r"(?m)(^|\s)#\s.*$", "", text.replace("\\\n", " "))
    text = re.sub(r"\$\(.*?\)", "SUBSTITUTE", text)
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|\n")
    lexer.whitespace, lexer.whitespace_split = " \t", True
    folder, command = ROOT, []
    for token in [*lexer, "\n"]:
        if token.strip(";&|\n"):
            command.append(token)
            continue
        assigned = [word for word in command if re.match(r"[A-Z_0-9]+=", word)]
        if command[:1] == ["export"] or assigned == command[: len(assigned)]:
            yield from settings_faults(dict(word.split("=", 1) for word in assigned))
        words = [word for word in command if word not in assigned or command[0] not in assigned]
        if words[:1] == ["cd"]:
            folder = folder / words[1]
        if words:
            yield from (f"{shlex.join(words)}: {fault}" for fault in command_faults(words, folder, whole))
        command = []


def settings_faults(environment: dict[str, str]) -> list[str]:
    """Variables that are no settings, and values that are not accepted."""
    known = {name: value for name, value in environment.items() if "..." not in value and "$" not in value}
    return unknown_settings(environment) + wrong_values(known)


def command_faults(words: Sequence[str], folder: Path, whole: bool) -> Iterator[str]:
    """What is wrong with one command."""
    match list(words):
        case ["cd", _]:
            if not folder.is_dir():
                yield "no such folder"
        case ["hmr2-worker", *rest] | ["python", "-m", "handler", *rest]:
            yield from worker_faults(rest, whole)
        case ["python", "-m", "pip", "install", *rest] | ["uv", "pip", "install", *rest]:
            yield from requirement_faults(rest)
        case ["python", "-m", "pytest", *paths]:
            yield from (path for path in paths if not (ROOT / path).exists())
        case ["python", "-m", module, *rest]:
            yield from script_faults(ROOT / f"{module.replace('.', '/')}.py", rest)
        case ["python", script, *rest]:
            yield from script_faults(folder / script, rest)
        case ["make", *rest]:
            makefile = (ROOT / "Makefile").read_text()
            for target in (word for word in rest if word.isidentifier() or ("-" in word and "=" not in word)):
                if not re.search(rf"^{target}:", makefile, re.MULTILINE):
                    yield f"no target {target}"
            for name in (word.partition("=")[0] for word in rest if re.match(r"[A-Z_]+=", word)):
                if f"$({name})" not in makefile:
                    yield f"no variable {name}"
        case ["npm", "run", script]:
            if script not in json.loads((folder / "package.json").read_text())["scripts"]:
                yield "no such script"
        case ["npm", "ci"]:
            if not (folder / "package-lock.json").is_file():
                yield "no package-lock.json here"
        case ["node", *rest]:
            program = next(word for word in rest if not word.startswith("-"))
            if not (folder / program.replace("dist/", "").replace(".js", ".ts")).is_file():
                yield f"nothing is compiled to {program}"
        case ["docker", "build", *rest]:
            recipes = "".join(path.read_text() for path in ROOT.glob("Dockerfile*"))
            for name in (word.partition("=")[0] for word in rest if re.match(r"[A-Z_]+=", word)):
                if f"ARG {name}" not in recipes:
                    yield f"no build argument {name}"
        case ["docker", "run", *rest]:
            if "python" in rest:
                yield from command_faults(rest[rest.index("python") :], folder, whole)
        case ["curl", *rest]:
            for body in (json.loads(word) for word in rest if word.startswith("{")):
                JobInput.model_validate(RunRequest.model_validate(body).input)
        case _:
            if not {words[0], " ".join(words[:2])} & PROGRAMS:
                yield "no test knows this program"


def worker_faults(words: list[str], whole: bool) -> Iterator[str]:
    """What the command line itself says of words, without carrying them out."""
    command, context, name = typer.main.get_command(app), None, "hmr2-worker"
    try:
        while words or whole:
            context = command.make_context(name, words, parent=context, resilient_parsing=not words)
            if not isinstance(command, TyperGroup):
                break
            name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
            assert command is not None
        if name == "track" and context and (whole or words):
            assert parse_overrides(context.params["words"]).source
    except Exception as error:  # noqa: BLE001 - whatever it says is told
        message = getattr(error, "format_message", lambda: str(error))()
        if whole or "Missing" not in message:
            yield message


def script_faults(path: Path, words: Sequence[str]) -> Iterator[str]:
    """Whether a program is there, and knows the options."""
    if not path.is_file():
        yield f"no file {path}"
        return
    program = path.read_text()
    yield from (word for word in words if word.startswith("--") and f'"{word}"' not in program)


def requirement_faults(words: Sequence[str]) -> Iterator[str]:
    """Whether extras, groups and files of requirements are there."""
    project = (ROOT / "pyproject.toml").read_text()
    for before, word in zip(("", *words), words, strict=False):
        if before == "-r" and not (ROOT / word).is_file():
            yield f"no file {word}"
        for name in re.findall(r"[\w-]+", word) if before == "--group" or word.startswith(".[") else ():
            if not re.search(rf"^{name} = \[", project, re.MULTILINE):
                yield f"no extra or group {name}"


# --- run


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clean copy of the project after `make setup`, and a result to read."""
    folder = tmp_path / "clone"
    left_out = shutil.ignore_patterns(
        *(".git", ".venv", "tests", "var", "out", "dist", "node_modules", "__pycache__")
    )
    shutil.copytree(ROOT, folder, ignore=left_out)
    (folder / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (folder / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    (folder / ".venv" / ".installed").touch()
    make_video(folder / "my.mp4", num_frames=10)
    (folder / "frames.jsonl.gz").write_bytes(gzip.compress(FRAMES.read_bytes()))
    return folder


def reader(folder: Path, **more: str) -> dict[str, str]:
    """The environment of someone who has set nothing."""
    ours = ("BUCKET_", "ENDPOINT_", "MODEL", "RUNPOD_", "SERVE_", "VIDEO_", "WEIGHTS_", "WORKER_", "MAKE")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}  # noqa: TID251
    own = {"PYTHONPATH": str(folder), "MODEL_STORE": str(folder / "no-store"), "OMP_NUM_THREADS": "1"}
    return {**inherited, **own, "WORKER_SCRATCH": str(folder / "scratch"), **more}


def run(script: str, folder: Path, environment: dict[str, str]) -> str:
    """What a script prints."""
    command = ["bash", "-e", "-o", "pipefail", "-c", script]
    done = subprocess.run(
        command, cwd=folder, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    text = done.stdout.decode(errors="replace")
    assert done.returncode == 0, text
    return text


@pytest.mark.slow
@pytest.mark.timeout(1800)
@every_page(slow=True)
def test_page_runs_from_top_to_bottom(page: Path, clone: Path) -> None:
    """One shell for the page; what serves goes on in another while the rest is done."""
    with ExitStack() as until_the_end:
        rest = until_the_end.enter_context(serving(FakeRest()))
        to_runpod = {"RUNPOD_DEPLOY_URL": rest.url, "NO_PROXY": "127.0.0.1", "IMAGE": "you/worker:0.1.0"}
        environment = reader(clone, **to_runpod)
        script = ""
        for block in (block for block in blocks(page) if block.runs):
            if block.language == "python" and (name := SAVED_AS.search(block.before)):
                assert len(block.text.splitlines()) < LONGEST_EXAMPLE
                (clone / name[1]).write_text(block.text)
            elif block.language == "bash" and "handler serve" in block.text:
                until_the_end.callback(stop, serve(block.text, clone, environment))
            elif block.language == "bash":
                script += re.sub(
                    r"\b([A-Z_]+)=\.\.\.", lambda found: f"{found[1]}={OWN[found[1]]}", block.text
                )
        printed = run(script, clone, environment)
    AFTERWARDS.get(page.stem, lambda *_: None)(clone, printed)


def serve(text: str, folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start what serves, on ports that nobody has, and wait for the settings of its clients."""
    script = text.replace("handler serve", "handler serve --port 0 --storage-port 0")
    running = subprocess.Popen(["bash", "-ec", script], cwd=folder, env=environment, start_new_session=True)
    settings = folder / "var" / "endpoint" / "client.env"
    wait_until(lambda: running.poll() is not None or (settings.exists() and settings.stat().st_size))
    assert running.poll() is None
    return running


def stop(running: subprocess.Popen[bytes]) -> None:
    """As a closed terminal would."""
    os.killpg(running.pid, signal.SIGTERM)
    running.wait()


def detector_finds_people(folder: Path, printed: str) -> None:
    """OpenCV's detector finds two in five of the people in sight, and the result names it."""
    result, frames = results(folder)
    assert result["models"]["detector"] == "hog_people:HogPeople"
    assert "movenet.onnx" not in [file["name"] for file in result["models"]["files"]]
    assert len(frames) == 25
    assert share_found(frames) > 0.4  # 0.49


def regressor_gives_bodies(folder: Path, printed: str) -> None:
    """All four people are tracked with it, and the result names it and hashes its file once."""
    result, frames = results(folder)
    assert result["models"]["backbone"] == "both_ways:BothWays"
    files = [(file["role"], file["name"]) for file in result["models"]["files"]]
    assert files.count(("body regressor", "hmr2.safetensors")) == 1
    assert ("hmr2", "hmr2.safetensors") not in files
    assert share_found(frames) > 0.8  # 0.91


def endpoint_came_and_went(folder: Path, printed: str) -> None:
    """The first block creates, applies and destroys; the one for CI makes it anew and finds no drift."""
    assert printed.count(": to be created") == 4
    assert printed.count("removed hmr2-phalp") == 1
    assert printed.rstrip().endswith("nothing to change")


AFTERWARDS: dict[str, Callable[[Path, str], None]] = {
    "10-deploy": endpoint_came_and_went,
    "16-another-detector": detector_finds_people,
    "17-another-body-regressor": regressor_gives_bodies,
}


def results(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The summary and the frames of the page's command."""
    with gzip.open(folder / "out" / "frames.jsonl.gz") as lines:
        return json.loads((folder / "out" / "result.json").read_text()), [json.loads(line) for line in lines]


def share_found(frames: list[dict[str, Any]]) -> float:
    """The share of the people in sight that are measured in boxes like theirs."""
    truth = read_truth(ROOT / "examples" / "four_people.mp4")
    hits = expected = 0
    for frame in frames:
        people = [p for p in range(len(truth.betas)) if truth.counts(frame["frame"], p)]
        boxes = [p["bbox_xyxy"] for p in frame["people"] if p["state"] == "tracked"]
        overlap = box_iou(np.array(boxes).reshape(-1, 4), truth.bbox_xyxy[frame["frame"], people])
        hits, expected = hits + len(match(overlap, SAME_PERSON)), expected + len(people)
    return hits / expected


@all_blocks("python", run_alone=True)
def test_python_runs(block: Block, clone: Path) -> None:
    """Beside a result; what is saved as a module is run by its page's commands."""
    printed = run(f"{sys.executable} -c {shlex.quote(block.text)}", clone, reader(clone))
    assert len(printed.splitlines()) == 12


@pytest.mark.slow
def test_typescript_compiles_and_runs(clone: Path) -> None:
    """In the folder of the TypeScript client, with its compiler and types."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    found = [block for page in PAGES for block in blocks(page) if block.language == "typescript"]
    folder = clone / "examples" / "typescript"
    for block in found:
        (folder / f"{block.name}.ts").write_text(block.text)
    run("npm ci --no-audit --no-fund && npm run build", folder, reader(clone))
    for block in found:
        printed = run(f"node examples/typescript/dist/{block.name}.js", clone, reader(clone))
        assert len(printed.splitlines()) == 12, block.name

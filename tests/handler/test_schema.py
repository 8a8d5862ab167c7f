"""The published schemas and types are current, true of real output, and usable from TypeScript."""

import json
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest

from docs.generate import files, schemas, settings_classes, with_settings
from docs.typescript import declarations
from handler.job import ErrorReply, JobInput, Options, ProgressMessage
from handler.results.write import read_lines, write, write_document
from handler.settings import EnvironmentSettings, IntakeSettings
from tests.fakes import FakeBody
from tests.handler.results.factories import walk
from tests.handler.results.test_golden import FRAMES, RESULT

ROOT = Path(__file__).parents[2]
TYPESCRIPT = "typescript@5.9.3"


def validate(name: str, document: object) -> None:
    """Check a document against a checked-in schema."""
    schema = json.loads((ROOT / f"docs/schema/{name}.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(document)


def test_checked_in_files_are_current(monkeypatch):
    """Whoever changes a model or a setting runs `make schema`."""
    monkeypatch.chdir(ROOT)
    stale = [str(path) for path, text in files().items() if path.read_text() != text]

    assert stale == []


def test_every_generated_schema_is_valid_and_no_other_is_checked_in():
    """A schema that nobody generates any more would lie for ever."""
    for schema in schemas().values():
        jsonschema.Draft202012Validator.check_schema(schema)
    names = {f"{name}.schema.json" for name in schemas()}
    assert {path.name for path in (ROOT / "docs/schema").iterdir()} == names


def test_golden_result_satisfies_the_schema():
    """The checked-in result and its frames are what the schemas promise."""
    validate("result", json.loads(RESULT.read_text()))
    for line in FRAMES.read_text().splitlines():
        validate("frame", json.loads(line))


@pytest.mark.parametrize("profile", ["params", "standard", "full"])
def test_fresh_frames_satisfy_the_schema(tmp_path, profile):
    """So are new ones, of every profile, as lines and as one document."""
    options = Options(profile=profile)
    written = write(walk(3, lose_every=2), options=options, body=FakeBody(), into=tmp_path)

    for line in read_lines(written.frames_path):
        validate("frame", json.loads(line))
    document = write_document(written, options=options, job_id="j", into=tmp_path)
    validate("frames-document", json.loads(document.read_bytes()))


def test_schema_refuses_what_the_contract_forbids():
    """Unknown fields, wrong lengths and missing fields are caught."""
    line = json.loads(FRAMES.read_text().splitlines()[0])
    line["people"][0]["smpl"]["betas"].append(0.0)
    with pytest.raises(jsonschema.ValidationError):
        validate("frame", line)
    with pytest.raises(jsonschema.ValidationError):
        validate("job-input", {"video_url": "https://example.com/a.mp4", "colour": "red"})
    with pytest.raises(jsonschema.ValidationError):
        validate("job-input", {})


def test_requests_and_replies_satisfy_the_schema():
    """What the models accept and give passes their schemas."""
    request = {
        "video_url": "https://example.com/a.mp4",
        "output": {"put_urls": {"result.json": "https://a", "frames.jsonl.gz": "https://b"}},
        "options": {"person": {"point": [1, 2]}, "camera": {"fx": 900}, "tracking": {"phalp.n_init": 3}},
    }
    error = ErrorReply(error="INTERNAL: x", error_code="INTERNAL", retryable=False, job_id="j")
    progress = ProgressMessage(
        stage="track", frames_done=1, frames_total=None, time_s=0.0, fps=1.0, eta_s=None, people=0
    )

    JobInput.model_validate(request)
    validate("job-input", request)
    validate("error-reply", error.model_dump(mode="json", exclude_none=True))
    validate("progress", progress.model_dump(mode="json"))


def test_unknown_schema_is_an_error_not_a_guess():
    """The generator refuses what it does not know."""
    with pytest.raises(ValueError, match="unknown form"):
        declarations({"A": {"type": "object", "properties": {"x": {"type": "object"}}}})
    with pytest.raises(ValueError, match="not an object"):
        declarations({"A": {"type": "string"}})


def test_every_setting_is_in_the_table_or_a_constant():
    """A field with a description has its row, under the name the environment uses; others it cannot set."""
    page = (ROOT / "docs/14-operations.md").read_text()
    for settings in settings_classes():
        prefix = settings.model_config.get("env_prefix", "")
        for name, info in settings.model_fields.items():
            rows = page.count(f"| `{prefix}{name}`".upper())
            assert rows >= 1 if info.description else issubclass(settings, EnvironmentSettings)
    names = {settings.__name__ for settings in settings_classes()}
    assert {"IntakeSettings", "ModelSettings"} <= names
    assert not {"BaseSettings", "EnvironmentSettings"} & names


def test_constants_are_not_read_from_the_environment(monkeypatch):
    """A variable named like a constant changes nothing; a setting's does."""
    monkeypatch.setenv("VIDEO_READ_SECONDS", "1")
    monkeypatch.setenv("VIDEO_MAX_BYTES", "7")
    settings = IntakeSettings()

    assert (settings.read_seconds, settings.max_bytes) == (30.0, 7)


def test_a_page_without_marks_is_refused():
    """A page that lost its marks is not silently left stale."""
    with pytest.raises(ValueError, match="must hold"):
        with_settings("# Operations")


CHECK = """
import type { FrameRecord, JobInput, PersonRecord, ResultDocument } from "./hmr2";

const result: ResultDocument = RESULT;
const frames: FrameRecord[] = FRAMES;
const person: PersonRecord = frames[0].people[0];
const pelvis: number = person.joints_3d![0];
const depth: number = person.smpl.transl[2];
const job: JobInput = { video_url: "https://a/b.mp4", options: { tracking: { "phalp.n_init": 3 } } };
if (person.state === "predicted") { const nobody: number | null = person.score; console.log(nobody); }
console.log(result.conventions.joint_names[0], pelvis, depth, job);
"""


@pytest.mark.slow
def test_types_compile_with_the_golden_result(tmp_path):
    """Tsc in strict mode accepts the golden documents as the declared types, and nothing else."""
    if shutil.which("npx") is None:
        pytest.skip("Node.js is not installed")
    shutil.copy(ROOT / "examples/typescript/hmr2.d.ts", tmp_path)
    frames = "[" + ",".join(FRAMES.read_text().splitlines()) + "]"
    good = CHECK.replace("RESULT;", RESULT.read_text() + ";").replace("FRAMES;", frames + ";")
    (tmp_path / "good.ts").write_text(good)
    (tmp_path / "bad.ts").write_text(good.replace('"tracked"', '"seen"'))

    def compiles(name: str) -> subprocess.CompletedProcess[str]:
        strict = ("--noEmit", "--strict", "--skipLibCheck", "false")
        tsc = ["npx", "--yes", "-p", TYPESCRIPT, "tsc", *strict, name]
        return subprocess.run(tsc, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)

    first = compiles("good.ts")
    if "npm error" in first.stderr:
        pytest.skip(f"the TypeScript compiler cannot be fetched: {first.stderr.splitlines()[0]}")
    assert (first.returncode, first.stdout) == (0, "")
    assert '"seen"' in compiles("bad.ts").stdout

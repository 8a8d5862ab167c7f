"""The tables and numbers of the documents say what the code says; their snippets: test_docs_snippets.py."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
from pydantic import BaseModel

from docs.generate import files, schemas, settings_classes, with_settings
from docs.typescript import declarations
from handler.errors import ErrorCode
from handler.job import BucketOutput, Options, TrackingOptions
from handler.problems import fields_of
from handler.results.document import JOINT_NAMES, PARENTS, FrameRecord, PersonRecord, ResultDocument
from handler.results.statistics import MAX_SAMPLES, MAX_TRACKS
from handler.results.store import CONTENT_TYPES
from handler.results.write import read_lines, write, write_document
from handler.settings import EnvironmentSettings, IntakeSettings
from tests.fakes import FakeBody
from tests.handler.results.factories import make_frame, walk
from tests.handler.results.test_golden import FRAMES, RESULT

ROOT = Path(__file__).parents[2]
OUTPUT = (ROOT / "docs/03-output.md").read_text()
ROW = re.compile(r"^\| `([^`]+)` \|(.*)\|$", re.MULTILINE)
CODE = re.compile(r'"([A-Z]+(?:_[A-Z]+)+)"')


def rows(name: str) -> dict[str, list[str]]:
    """First column without its backticks -> the other columns, of every table in a document."""
    text = (ROOT / "docs" / name).read_text()
    return {key: [cell.strip() for cell in rest.split("|")] for key, rest in ROW.findall(text)}


def test_every_error_code_is_documented_with_its_flags() -> None:
    """The table of codes and the classes agree, in both directions, flags included."""
    documented = {
        key: (cells[0] == "yes", cells[1] == "yes")
        for key, cells in rows("05-errors.md").items()
        if len(cells) == 4
    }
    assert documented == {code.value: (code.retryable, code.refresh_worker) for code in ErrorCode}
    advice = {key: cells[3] for key, cells in rows("05-errors.md").items() if len(cells) == 4}
    unanswered = {"SHUTTING_DOWN"}  # the queue runs the job again by itself
    assert {code for code, text in advice.items() if "try again" in text} | unanswered == {
        code.value for code in ErrorCode if code.retryable
    }


def test_every_warning_code_is_documented() -> None:
    """The table of warnings lists what the stages can warn about, and nothing else."""
    documented = {key for key, cells in rows("05-errors.md").items() if len(cells) == 1}
    used = set()
    for folder in ("source", "people", "results"):
        for path in (ROOT / "handler" / folder).glob("*.py"):
            used |= set(CODE.findall(path.read_text()))
    assert documented == used - set(ErrorCode)


def test_every_input_field_is_documented_with_its_default() -> None:
    """Each option stands in the tables under its own name, with the default it has."""
    documented = rows("01-job-api.md")
    fields = {f"options.{name}": info for name, info in Options.model_fields.items()}
    fields |= {info.alias or name: info for name, info in TrackingOptions.model_fields.items()}
    for name, info in fields.items():
        default = info.get_default(call_default_factory=True, validated_data={})
        shown = "{}" if isinstance(default, BaseModel) else json.dumps(default)
        assert documented[name][1] == f"`{shown}`", name
    places = {"video_url", "output.put_urls", *(f"output.{name}" for name in BucketOutput.model_fields)}
    assert set(documented) == set(fields) | places


def names_in(text: str, start: str, end: str) -> set[str]:
    """The names in backticks in the first column of the table between two phrases."""
    part = text.partition(start)[2].partition(end)[0]
    firsts = re.findall(r"^\| (`[^|]+`) \|", part, re.MULTILINE)
    return {name for first in firsts for name in re.findall(r"`([^`]+)`", first)}


@pytest.mark.parametrize(
    ("model", "start", "end"),
    [
        (FrameRecord, "## A line", "A person:"),
        (PersonRecord, "A person:", "### Profiles"),
        (ResultDocument, "## The summary", "## Where it goes"),
    ],
)
def test_every_field_has_its_row(model, start, end):
    """The tables list the fields of the models, no more and no less."""
    fields = {info.alias or name for name, info in model.model_fields.items()}
    documented = names_in(OUTPUT, start, end)

    assert documented == fields - {"tracks_omitted", "license_notice"}


def test_every_key_of_phalps_pkl_has_its_field(golden):
    """The page for users of 4D-Humans names all keys of the official output, and fields that exist."""
    page = (ROOT / "docs/18-from-4d-humans.md").read_text()
    table = page.partition("| `.pkl` |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:3]] for line in table]
    fields = {".".join(path) for path in dict(fields_of(FrameRecord))}

    assert {key for keys, _ in cells for key in keys} == set(
        next(iter(golden("e2e_output.json").values()))["keys"]
    )
    assert {name for _, names in cells for name in names} <= fields
    assert set(re.findall(r"`(people\.[a-z_.0-9]+)`", page)) <= fields


def test_content_types_are_those_that_are_sent():
    """Whoever signs a URL can rely on the table."""
    part = OUTPUT.partition("| Content-Type |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (.+) \| `(.+)` \|$", part, re.MULTILINE)

    documented = {name: kind for names, kind in rows for name in re.findall(r"`([^`]+)`", names)}

    assert documented == CONTENT_TYPES


def test_limits_are_those_of_the_code():
    """The numbers in the text are the constants."""
    assert f"at most {MAX_TRACKS} identities" in OUTPUT
    assert f"up to {MAX_SAMPLES} frames" in OUTPUT


def test_joint_table_is_the_joint_order():
    """Numbers, names and parents are those of the files."""
    part = (ROOT / "docs/04-coordinates.md").read_text().partition("## Joints")[2]
    found = re.findall(r"(\d+) \| (\w+) \| ?(\d*) ?\|", part)
    table = {int(number): (name, int(parent or -1)) for number, name, parent in found}

    assert table == {i: (JOINT_NAMES[i], PARENTS[i]) for i in range(24)}


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
    frames = [*walk(3, lose_every=2), make_frame(3)]
    written = write(frames, options=options, body=FakeBody(), into=tmp_path)

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

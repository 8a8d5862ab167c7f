"""The tables and numbers of the documents say what the code says; their snippets: test_docs_snippets.py."""

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from handler.errors import ErrorCode
from handler.job import BucketOutput, Options, TrackingOptions
from handler.problems import fields_of
from handler.results.document import JOINT_NAMES, PARENTS, FrameRecord, PersonRecord, ResultDocument
from handler.results.statistics import MAX_SAMPLES, MAX_TRACKS
from handler.results.store import CONTENT_TYPES

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

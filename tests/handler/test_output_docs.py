"""docs/03 and docs/04 say what the files hold."""

import contextlib
import gzip
import io
import re
from pathlib import Path

import pytest

from handler.results.document import JOINT_NAMES, PARENTS, FrameRecord, PersonRecord, ResultDocument
from handler.results.statistics import MAX_SAMPLES, MAX_TRACKS
from handler.results.store import CONTENT_TYPES
from tests.handler.results.test_golden import FRAMES

DOCS = Path(__file__).parents[2] / "docs"
OUTPUT = (DOCS / "03-output.md").read_text()
COORDINATES = (DOCS / "04-coordinates.md").read_text()


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


def test_python_example_reads_a_result(tmp_path, monkeypatch):
    """The reading example runs as it stands on a real file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames.jsonl.gz").write_bytes(gzip.compress(FRAMES.read_bytes()))
    (example,) = re.findall(r"```python\n(import gzip.*?)```", OUTPUT, re.DOTALL)
    printed = io.StringIO()

    with contextlib.redirect_stdout(printed):
        exec(compile(example, "docs/03-output.md", "exec"), {})

    assert len(printed.getvalue().splitlines()) == 12


def test_joint_table_is_the_joint_order():
    """Numbers, names and parents are those of the files."""
    part = COORDINATES.partition("## Joints")[2]
    found = re.findall(r"(\d+) \| (\w+) \| ?(\d*) ?\|", part)
    table = {int(number): (name, int(parent or -1)) for number, name, parent in found}

    assert table == {i: (JOINT_NAMES[i], PARENTS[i]) for i in range(24)}

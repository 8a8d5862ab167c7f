"""The documents say what the code says."""

import json
import re
from pathlib import Path

from pydantic import BaseModel

from handler.errors import ErrorCode
from handler.job import BucketOutput, ErrorReply, JobInput, Options, ProgressMessage, Reply, TrackingOptions

ROOT = Path(__file__).parents[2]
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


def test_examples_in_the_documents_are_valid() -> None:
    """Every JSON example can be read by the models it illustrates."""
    text = (ROOT / "docs" / "01-job-api.md").read_text()
    progress, reply = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    ProgressMessage.model_validate(progress)
    assert set(Reply.model_validate(reply).model_dump()) == set(reply)
    (request,) = re.findall(r"-d '(\{.*?\})'", text, re.DOTALL)
    JobInput.model_validate(json.loads(request)["input"])
    (failed,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "05-errors.md").read_text(), re.DOTALL)
    body = json.loads(failed)
    ErrorReply.model_validate({"error": body["error"], **body["output"]})

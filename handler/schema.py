"""The request, the replies and the files as JSON Schema and TypeScript. Knows nothing of how they are made.

python -m handler.schema        writes docs/schema/*.json and examples/typescript/hmr2.d.ts
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from handler.job import ErrorReply, JobInput, ProgressMessage, Reply
from handler.results.document import FrameRecord, FramesDocument, ResultDocument
from handler.typescript import declarations

Schema = dict[str, Any]

# File name, model, and which side writes it.
PUBLISHED: tuple[tuple[str, type[BaseModel], Literal["validation", "serialization"]], ...] = (
    ("job-input", JobInput, "validation"),
    ("progress", ProgressMessage, "serialization"),
    ("reply", Reply, "serialization"),
    ("error-reply", ErrorReply, "serialization"),
    ("result", ResultDocument, "serialization"),
    ("frame", FrameRecord, "serialization"),
    ("frames-document", FramesDocument, "serialization"),
)
SCHEMA_FOLDER = Path("docs/schema")
TYPESCRIPT_FILE = Path("examples/typescript/hmr2.d.ts")


class _Untitled(GenerateJsonSchema):
    """Without a title per field, which only repeats its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schemas() -> dict[str, Schema]:
    """One self-contained JSON Schema (2020-12) per published document, by file name."""
    return {
        name: {"$schema": GenerateJsonSchema.schema_dialect}
        | model.model_json_schema(mode=mode, schema_generator=_Untitled)
        for name, model, mode in PUBLISHED
    }


def typescript() -> str:
    """Type declarations of every published document."""
    models = [(model, mode) for _, model, mode in PUBLISHED]
    _, combined = models_json_schema(models, schema_generator=_Untitled)
    return declarations(combined["$defs"])


def files() -> dict[Path, str]:
    """What is checked in, by path from the repository's root."""
    texts = {
        SCHEMA_FOLDER / f"{name}.schema.json": json.dumps(schema, indent=2) + "\n"
        for name, schema in schemas().items()
    }
    return texts | {TYPESCRIPT_FILE: typescript()}


def write_files(root: Path) -> list[Path]:
    """Write all of them below a repository's root; gives their paths."""
    written = []
    for path, text in files().items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        written.append(target)
    return written


if __name__ == "__main__":
    write_files(Path.cwd())

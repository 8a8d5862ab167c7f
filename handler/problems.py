"""Pydantic's validation errors as sentences for whoever wrote the request, the command or the setting."""

import difflib
import json
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

Path = tuple[str, ...]

MAX_REPORTED = 10
_MAX_NAME_LENGTH = 64

_SENTENCES = {
    "missing": "is missing",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
}
_FORMS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "dict": "an object",
    "model": "an object",
    "union": "an object",
}


def dotted(path: Path) -> str:
    """A field's name in JSON: `options.stride`."""
    return ".".join(part[:_MAX_NAME_LENGTH] for part in path)


def not_known(meant: Sequence[str], others: Iterable[str]) -> str:
    """What to say of a name that is none: those that may have been meant, else all there are."""
    if meant:
        return f"is not known; did you mean {' or '.join(meant)}?"
    there_are = ", ".join(others)
    return "is not known" + (f"; there are {there_are}" if there_are else "")


def as_json(path: Path, value: object) -> str:
    """An example as the author of a request writes it."""
    return json.dumps(value)


def problems(
    error: ValidationError,
    model: type[BaseModel],
    given: object,
    *,
    name: Callable[[Path], str] = dotted,
    write: Callable[[Path, object], str] = as_json,
    whole: str = "input",
) -> list[str]:
    """Each problem as a sentence without a full stop, and without the value, which may be a secret.

    Args:
        error: what validation of `given` raised.
        model: what it was validated as.
        given: the value that was validated.
        name: how the writer knows a field.
        write: how the writer sets a field to an example.
        whole: how the writer knows all of `given`.
    """
    wording = _Wording(model, given, name, write, whole)
    sentences = list(dict.fromkeys(map(wording.sentence, error.errors(include_url=False))))
    more = len(sentences) - MAX_REPORTED
    return sentences[:MAX_REPORTED] + ([f"and {more} more problems"] if more > 0 else [])


@dataclass(frozen=True)
class _Wording:
    model: type[BaseModel]
    given: object
    name: Callable[[Path], str]
    write: Callable[[Path, object], str]
    whole: str

    @cached_property
    def fields(self) -> dict[Path, FieldInfo]:
        """Every field that can be written, by its path."""
        return dict(fields_of(self.model))

    def sentence(self, problem: Any) -> str:
        path, in_list = self.written(problem)
        kind, context = problem["type"], problem.get("ctx", {})
        subject = self.name(path) or self.whole
        field = self.fields.get(path)
        example = self.example(path)
        form = _FORMS.get(kind.partition("_")[0])
        if kind == "literal_error":
            expected = context["expected"].replace("'", "")
            return f"{subject} {'may hold' if in_list else 'must be'} {expected}"
        if kind == "extra_forbidden":
            return f"{subject} {self.unknown(path)}"
        if kind == "value_error":
            return self.validators_own(path, str(context["error"]))
        if kind in _SENTENCES and not in_list:
            shown = {
                key: f"{bound:g}" if isinstance(bound, float) else bound for key, bound in context.items()
            }
            return f"{subject} {_SENTENCES[kind].format(**shown)}"
        if form and kind != "string_pattern_mismatch" and not in_list:
            return f"{subject} must be {form}" + (f", such as {example}" if example else "")
        if example:
            return f"{subject} is not valid; an example: {example}"
        meaning = field.description if field else None
        return f"{subject} is not valid" + (f": {meaning.rstrip('.')}" if meaning else "")

    def example(self, path: Path) -> str | None:
        """A right value, if the field has one; for the whole, its required fields."""
        if path:
            examples = path in self.fields and self.fields[path].examples
            return self.write(path, examples[0]) if examples else None
        required = {name: field for name, field in self.model.model_fields.items() if field.is_required()}
        return self.write(
            path, {name: field.examples[0] for name, field in required.items() if field.examples}
        )

    def written(self, problem: Any) -> tuple[Path, bool]:
        """The names on the way to a problem, without pydantic's own steps, and whether they end at a list."""
        path: list[str] = []
        here: Any = self.given
        *_, last = problem["loc"] or [None]
        for step in problem["loc"]:
            if isinstance(step, int):
                return tuple(path), True
            if isinstance(here, dict) and (step in here or (step == last and problem["type"] == "missing")):
                path.append(step)
                here = here.get(step)
        return tuple(path), False

    def unknown(self, path: Path) -> str:
        """What may have been meant: a field beside it, or one of the same name elsewhere."""
        if path in self.fields:
            return "cannot be combined with the others beside it"
        word = _last(path)
        beside = {_last(other): other for other in self.fields if other[:-1] == path[:-1]}
        meant = [beside[other] for other in difflib.get_close_matches(word, beside, n=2, cutoff=0.6)]
        meant = meant or [other for other in self.fields if _last(other) == word]
        return not_known([self.name(other) for other in meant], beside)

    def validators_own(self, path: Path, text: str) -> str:
        """A validator's text, which begins with a verb or a field; others have a . or _ in their names."""

        def field(word: str) -> str | None:
            inner = (*path, *word.split("."))
            return self.name(inner) if inner in self.fields else None

        first, *rest = text.split(" ")
        start = field(first) or f"{self.name(path) or self.whole} {first}"
        return " ".join([start, *((re.search("[._]", word) and field(word)) or word for word in rest)])


def fields_of(model: type[BaseModel], prefix: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    """Every field of a model and of the models in it, by its path as it is written."""
    for name, field in model.model_fields.items():
        path = (*prefix, field.alias or name)
        yield path, field
        for inner in _models(field.annotation):
            yield from fields_of(inner, path)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _models(inner)


def _last(path: Path) -> str:
    return path[-1].removeprefix("phalp.")

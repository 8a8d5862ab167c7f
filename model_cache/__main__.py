"""`python -m model_cache`: the weights store on the command line. Knows nothing of jobs."""

import logging
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from model_cache.errors import ModelError
from model_cache.settings import ModelSettings
from model_cache.store.convert import convert
from model_cache.store.keys import group_keys
from model_cache.store.sources import MODEL_SOURCES

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _commands() -> None:
    """The store of converted model weights."""


@app.command("convert")
def convert_command(
    sources: Annotated[list[Path], typer.Argument(help="Official files, or folders that hold them.")],
    out: Annotated[Path | None, typer.Option(help="The store; default MODEL_STORE.")] = None,
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(help="Of HMR2's backbone.")] = "fp32",
    only: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(MODEL_SOURCES)}.")] = None,
) -> None:
    """Convert official files of HMR2, SMPL and PHALP to safetensors; nothing in them is executed."""
    store = out or ModelSettings().model_store
    unknown = set(only or ()) - MODEL_SOURCES.keys()
    if unknown:
        raise typer.BadParameter(f"unknown model: {', '.join(sorted(unknown))}", param_hint="--only")
    report = convert(sources, store, precision=precision, only=only or tuple(MODEL_SOURCES))
    for model, facts in report.items():
        _print_model(model, facts)
    typer.echo(f"Store: {store}")


def _print_model(model: str, facts: dict[str, Any]) -> None:
    """What was made of one model, and every key that was left out, with the reason."""
    for name, file in facts["files"].items():
        typer.echo(f"{name}  {file['bytes'] / 2**20:.1f} MiB  sha256 {file['sha256']}")
    for file in facts["sources"].values():
        typer.echo(f"  from {file['name']}  sha256 {file['sha256']}")
    for reason, keys in group_keys(facts["ignored_keys"]).items():
        typer.echo(f"  not used, {reason}: {', '.join(keys)}")
    for note in facts["notes"]:
        typer.echo(f"  note: {note}")


def main() -> None:
    """Runs a command; what a user can put right is one line on stderr and exit status 1."""
    logging.basicConfig(level=logging.WARNING)
    try:
        app()
    except ModelError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()

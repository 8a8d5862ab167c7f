"""`python -m handler weights`: the commands that fill and check the weights store."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

from handler.process import exit_on_signals
from model_cache.errors import WeightsInvalid
from model_cache.settings import ModelSettings
from model_cache.store.manifest import FETCH, MODEL_SOURCES, Precision, package_caches
from ops.overrides import local_path
from ops.weights.fetch import fetch
from ops.weights.inventory import ENGINES, Engine, listing, needed_models, record, verify
from ops.weights.lock import single_writer
from ops.weights.settings import WeightSettings

PARTS = (*MODEL_SOURCES, "detector")
LINE_EVERY_PERCENT = 10  # of a download, in a log, where no bar can be drawn

Store = Annotated[Path | None, typer.Option(help="The store; default MODEL_STORE.")]
Backbone = Annotated[Precision, typer.Option(help="Of HMR2's backbone.")]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _commands() -> None:
    """The store of model weights. Settings: WEIGHTS_*, MODEL_STORE, DETECTOR."""
    exit_on_signals()  # as an exception, so that half-written files are removed


@app.command("fetch")
def fetch_command(
    store: Store = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="official (default), upstream: the official packages' own.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(PARTS)}.")] = None,
    precision: Backbone = "fp32",
    discard_official: Annotated[
        bool, typer.Option("--discard-official", help="Delete the official files once converted.")
    ] = False,
) -> None:
    """Get the official files that are missing, check them, and convert them.

    Interrupt it at any time: the next run goes on where this one stopped. SMPL is never downloaded from
    anywhere but the place that WEIGHTS_SMPL or WEIGHTS_MIRROR names.
    """
    models = _models(store)
    engines, parts = _engines(engine), _known(only, (*needed_models(models), "detector"), "--only", PARTS)
    settings = WeightSettings()
    with TerminalListener(Console(stderr=True)) as listener:
        converted = fetch(
            models,
            settings,
            listener,
            engines=engines,
            parts=parts,
            precision=precision,
            keep_official=not discard_official,
            caches=package_caches(),
        )
    typer.echo(f"Store: {models.model_store}" + (f"  converted: {', '.join(converted)}" if converted else ""))


@app.command("convert")
def convert_command(
    sources: Annotated[list[str], typer.Argument(help="Official files, or folders that hold them.")],
    out: Store = None,
    precision: Backbone = "fp32",
    only: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(MODEL_SOURCES)}.")] = None,
) -> None:
    """Convert official files of HMR2, SMPL and PHALP to safetensors; nothing in them is executed."""
    from ops.weights.convert import convert  # brings torch, seconds that the other commands save

    chosen = _known(only, MODEL_SOURCES, "--only", MODEL_SOURCES)
    store = _models(out).model_store
    with single_writer(store, _say):
        report = convert(list(map(local_path, sources)), store, precision=precision, only=chosen)
    for facts in report.values():
        _print_model(facts)
    typer.echo(f"Store: {store}")


@app.command("verify")
def verify_command(
    store: Store = None,
    engine: Annotated[
        list[str] | None, typer.Option(help=f"Which: official (default) or another of {', '.join(ENGINES)}.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Names and sizes only, no hashes.")] = False,
) -> None:
    """Say what an engine lacks; status 1 if it is not ready."""
    settings, caches = WeightSettings(), package_caches()
    verdicts = verify(_models(store), settings, caches, _engines(engine), hashes=not quick)
    for name, verdict in verdicts.items():
        typer.echo(f"{name}: {'NOT READY' if verdict.problems else 'ready'} - {ENGINES[name]}")
        for problem in verdict.problems:
            typer.echo(f"  - {problem}")
        for remedy in verdict.remedies:
            typer.echo(f"  > {remedy}")
    if any(verdict.problems for verdict in verdicts.values()):
        raise typer.Exit(1)


@app.command("lock")
def lock_command(
    store: Store = None,
    update: Annotated[
        list[str] | None, typer.Option(help="Accept that this file has changed; its name in the lock file.")
    ] = None,
) -> None:
    """Record the SHA-256 of every official file that is there; status 1 if one is not what was recorded.

    `fetch` records new files by itself. Share the lock file (WEIGHTS_LOCK) to have the same files everywhere.
    """
    models = _models(store)
    with single_writer(models.model_store, _say):
        path, entries, changed = record(models, WeightSettings(), accept=update or ())
    if not entries:
        typer.echo(f"Nothing is recorded: no official file is in {models.model_store}. `{FETCH}` gets them")
        return
    for key, locked in entries.items():
        typer.echo(f"{locked.sha256}  {locked.bytes:>12}  {locked.recorded}  {key} ({locked.name})")
    typer.echo(f"Lock: {path}")
    if changed:
        raise WeightsInvalid(
            f"not what was recorded: {', '.join(changed)}. Restore the file, or accept it with --update NAME"
        )


@app.command("list")
def list_command(store: Store = None) -> None:
    """Show every official file: whether it is there, what for, its source and setting, its terms."""
    for line in listing(_models(store), WeightSettings(), package_caches()):
        typer.echo(line)


class TerminalListener:
    """Sentences as lines; a bar for the file being fetched, or a line for every tenth of it in a log."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (*Progress.get_default_columns(), DownloadColumn(binary_units=True), TransferSpeedColumn())
        self._bars = Progress(*columns, console=console, transient=True)
        self._name: str | None = None
        self._tenth = 0

    def say(self, text: str) -> None:
        """Prints a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def progress(self, name: str, done: int, total: int | None) -> None:
        """Moves the bar to `done` of `total` bytes; a new name begins a new one."""
        if name != self._name:
            self._name, self._tenth = name, 0
            for task in self._bars.task_ids:
                self._bars.remove_task(task)
            self._bars.add_task(name, total=total)
        if self._console.is_terminal:
            self._bars.update(self._bars.task_ids[0], completed=done, total=total)
        elif total and (tenth := done * 100 // total // LINE_EVERY_PERCENT) > self._tenth:
            self._tenth = tenth
            self.say(f"{name}: {tenth * LINE_EVERY_PERCENT} % of {total / 2**20:.1f} MiB")

    def __enter__(self) -> "TerminalListener":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _models(store: Path | None) -> ModelSettings:
    return ModelSettings() if store is None else ModelSettings(model_store=store)


def _known(
    names: Collection[str] | None, usual: Collection[str], option: str, known: Collection[str]
) -> tuple[str, ...]:
    """The names that were given, or the usual ones."""
    if unknown := set(names or ()) - set(known):
        wrong = ", ".join(sorted(unknown))
        raise typer.BadParameter(f"unknown: {wrong}; there are {', '.join(known)}", param_hint=option)
    return tuple(names or usual)


def _engines(names: Collection[str] | None) -> list[Engine]:
    chosen = _known(names, ["official"], "--engine", ENGINES)
    return [engine for engine in ENGINES if engine in chosen]


def _print_model(facts: dict[str, Any]) -> None:
    """What was made of one model, and every key that was left out, with the reason."""
    for name, file in facts["files"].items():
        typer.echo(f"{name}  {file['bytes'] / 2**20:.1f} MiB  sha256 {file['sha256']}")
    for file in facts["sources"].values():
        typer.echo(f"  from {file['name']}  sha256 {file['sha256']}")
    for reason in dict.fromkeys(facts["ignored_keys"].values()):
        keys = ", ".join(key for key, why in facts["ignored_keys"].items() if why == reason)
        typer.echo(f"  not used, {reason}: {keys}")
    for note in facts["notes"]:
        typer.echo(f"  note: {note}")

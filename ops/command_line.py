"""The command line, `hmr2-worker` or `python -m handler`: each command calls the right place."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from handler.settings import inherited_environment
from model_cache.errors import ModelError, WeightsMissing
from ops.deploy.command import app as deploy
from ops.environment import unknown_settings, wrong_values
from ops.overrides import local_path
from ops.weights.command import app as weights

if TYPE_CHECKING:  # the commands import what they need when they run: importing torch takes seconds
    from handler.settings import Settings
    from model_cache.interfaces import Models

ModelChoice = Literal["auto", "official", "lite"]
OverlayStyle = Literal["mesh", "skeleton"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(deploy, name="deploy")
app.add_typer(weights, name="weights")


@app.callback()
def check_environment() -> None:
    """Video of people in, tracked 3D human motion out."""
    environment = inherited_environment()
    wrong = wrong_values(environment)
    for line in [
        *(f"error: {line}" for line in wrong),
        *(f"warning: {line}" for line in unknown_settings(environment)),
    ]:
        typer.echo(line, err=True)
    if wrong:
        raise typer.Exit(1)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def worker() -> None:
    """Take jobs from RunPod, or from `serve`, until told to stop; RunPod's --rp_... options pass through.

    Without MODELS in its environment it wants the official models: in production nothing falls back silently.
    """
    from handler.settings import Settings
    from handler.worker import start

    settings = Settings()
    start(lambda: _load_models(settings, _production_choice()), settings)


@app.command()
def fitness() -> None:
    """Load the models and run a worker's checks on itself, without a queue; exit code 1 if it is unfit."""
    from handler.fitness import Unfit, checks
    from handler.process import exit_on_signals
    from handler.settings import Settings

    exit_on_signals()
    settings = Settings()
    try:
        models = _load_models(settings, _production_choice())
        for check in checks(models, settings):
            check()
            typer.echo(f"{check.__name__}: yes")
    except (Unfit, ModelError) as error:
        typer.echo(f"unfit: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"fit, with the {models.description.models} models on {models.description.device}")


@app.command(context_settings={"ignore_unknown_options": True})
def track(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="A video, a folder of .jpg files or a URL, and options: name=value, --name value."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; default ./out.")] = None,
    models: Annotated[ModelChoice | None, typer.Option(help="Default: $MODELS, else auto.")] = None,
) -> None:
    """Track the people in one video, without a server.

    The options of a job's input work here, and so do 4D-Humans' own:
    track video.source=clip.mp4 video.output_dir=out phalp.n_init=3
    (all of them: docs/18-from-4d-humans.md)
    """
    from rich.console import Console

    from handler.process import exit_on_signals
    from handler.settings import Settings
    from ops.track_command import track as run

    exit_on_signals()
    settings = Settings()
    code = run(
        words or [],
        out,
        lambda: _load_models(settings, models),
        settings,
        console=Console(),
        errors=Console(stderr=True),
    )
    raise typer.Exit(code)


@app.command()
def serve(
    data: Annotated[Path, typer.Option(help="Folder of the queue, results and keys.")] = Path("var/endpoint"),
    workers: Annotated[int | None, typer.Option(min=0, help="Worker processes; default 1 per GPU.")] = None,
    gpus: Annotated[str, typer.Option(help="GPUs dealt out to the workers, as 0,1,2.")] = "",
    models: Annotated[ModelChoice | None, typer.Option(help="Default: $MODELS, else auto.")] = None,
    host: Annotated[str, typer.Option(help="Beyond loopback needs SERVE_API_KEY.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the job API.")] = 8000,
    storage_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the S3 server.")] = 8001,
) -> None:
    """Serve RunPod's job API on this machine, with workers and an S3 server for the results.

    Results go to the S3 server, or to a bucket elsewhere if BUCKET_NAME is set.
    """
    from ops.endpoint import CannotServe
    from ops.endpoint.serve import ServeOptions, run

    devices = tuple(gpu.strip() for gpu in gpus.split(",") if gpu.strip())
    options = ServeOptions(
        data=data,
        host=host,
        port=port,
        storage_port=storage_port,
        num_workers=max(len(devices), 1) if workers is None else workers,
        gpus=devices,
        models=models,
    )
    try:
        run(options)
    except CannotServe as reason:
        typer.echo(f"error: {reason}", err=True)
        raise typer.Exit(1) from None


@app.command()
def overlay(
    video: Annotated[str, typer.Argument(help="The video that the results were made from.")],
    results: Annotated[str, typer.Argument(help="Folder with result.json and frames.jsonl.gz.")],
    out: Annotated[str | None, typer.Option(help="File to write; default overlay.mp4 there.")] = None,
    style: Annotated[OverlayStyle | None, typer.Option(help="Default: what the job asked for.")] = None,
) -> None:
    """Draw finished results on their video, with the body model that they were made with."""
    from handler import logs
    from handler.process import exit_on_signals
    from handler.settings import Settings
    from model_cache.load import load_body_model
    from model_cache.settings import ModelSettings
    from ops.overlay_command import draw

    exit_on_signals()
    settings = Settings()
    logs.configure("WARNING", logs.Redactor(settings.secrets()), as_json=False)
    path = draw(
        local_path(video),
        local_path(results),
        local_path(out) if out else None,
        style,
        lambda body_model: load_body_model(body_model, ModelSettings()),
        settings,
    )
    typer.echo(f"wrote {path}")


def _production_choice() -> ModelChoice | None:
    """None if MODELS is set, else `official`."""
    from model_cache.settings import ModelSettings

    return None if "models" in ModelSettings().model_fields_set else "official"


def _load_models(settings: "Settings", choice: ModelChoice | None = None) -> "Models":
    from model_cache.load import load
    from model_cache.settings import ModelSettings

    wanted = ModelSettings() if choice is None else ModelSettings(models=choice)
    try:
        return load(wanted, warm_up_frames=settings.worker.batch_frames)
    except WeightsMissing:
        from ops.weights.inventory import check_official

        if wanted.models == "official" and wanted.engine == "native":
            check_official(wanted)  # names every missing file, not only the first
        raise


def main() -> None:
    """Run a command; whatever it fails with is told in sentences, with exit status 1.

    A worker's faults come out as they are: the log of a container is all that is kept of it.
    """
    try:
        app()
    except Exception as error:
        if sys.argv[1:2] == ["worker"] and not isinstance(error, ModelError):
            raise
        from handler.logs import Redactor
        from handler.settings import Settings
        from ops.local_files import sentences

        redactor = Redactor(Settings().secrets())
        for sentence in sentences(error, redactor):
            typer.echo(redactor(f"error: {sentence}"), err=True)
        sys.exit(1)

"""The command group `deploy`: options in, exit code out. Knows nothing of what the commands do."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:  # imported when a command runs: the other commands need none of it
    from ops.deploy.command import Say

USAGE = 2  # how typer ends when it does not understand; here 2 means "there are changes"

FileOption = Annotated[Path, typer.Option("--file", help="What the endpoint should be.")]
ProfileOption = Annotated[str | None, typer.Option(help="One of the file's profiles.")]
ImageOption = Annotated[str | None, typer.Option(help="Instead of the file's image; a version or a digest.")]

DEPLOY_FILE = Path("deploy.yaml")


class _Group(TyperGroup):
    """Ends with 1 where typer would end with 2, so that 2 can only mean changes."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise
        except Exception as error:
            if getattr(error, "exit_code", None) == USAGE:
                error.exit_code = 1  # type: ignore[attr-defined]  # just seen
            raise


app = typer.Typer(
    cls=_Group,
    help="Make a RunPod endpoint what deploy.yaml says. Needs RUNPOD_API_KEY.",
    no_args_is_help=True,
)


@app.command()
def plan(file: FileOption = DEPLOY_FILE, profile: ProfileOption = None, image: ImageOption = None) -> None:
    """Show what apply would do. Exit code 0: nothing, 2: changes, 1: error."""
    from ops.deploy import command

    _end(command.plan(command.Request(file=file, profile=profile, image=image), *_lines()))


@app.command()
def apply(
    file: FileOption = DEPLOY_FILE,
    profile: ProfileOption = None,
    image: ImageOption = None,
    wait: Annotated[bool, typer.Option(help="Wait until every worker runs the new release.")] = True,
) -> None:
    """Create or change the endpoint. Doing it twice changes nothing."""
    from ops.deploy import command

    _end(command.apply(command.Request(file=file, profile=profile, image=image), *_lines(), wait=wait))


@app.command()
def status(file: FileOption = DEPLOY_FILE, profile: ProfileOption = None) -> None:
    """Show the endpoint's image, workers, release and addresses."""
    from ops.deploy import command

    _end(command.status(command.Request(file=file, profile=profile), *_lines()))


@app.command()
def destroy(
    name: Annotated[str, typer.Argument(help="The endpoint's name, to be sure.")],
    yes: Annotated[bool, typer.Option("--yes", help="Really.")] = False,
    file: FileOption = DEPLOY_FILE,
    profile: ProfileOption = None,
) -> None:
    """Remove the endpoint and cancel its jobs."""
    from ops.deploy import command

    _end(command.destroy(command.Request(file=file, profile=profile), *_lines(), name=name, yes=yes))


def _lines() -> "tuple[Say, Say]":
    from rich.console import Console

    return _plain(Console()), _plain(Console(stderr=True))


def _plain(console: Any) -> Callable[[str], None]:
    return lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)


def _end(code: int) -> None:
    raise typer.Exit(code)

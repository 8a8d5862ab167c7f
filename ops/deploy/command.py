"""`python -m handler deploy`: plan, apply, status and destroy.

Exit codes: 0 fine, 1 error, 2 `plan --exit-code` found changes. No line holds a secret.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from handler import logs
from handler.settings import inherited_environment
from ops.deploy import DeployError
from ops.deploy.api import open_api
from ops.deploy.apply import Deployment
from ops.deploy.deploy_file import DeployFile, check_image, read_deploy_file, remarks, resolve_environment
from ops.deploy.plan import Plan
from ops.deploy.settings import DeploySettings
from ops.environment import wrong_settings

FAILED, CHANGES = 1, 2
USAGE = 2  # how typer ends when it does not understand; with --exit-code 2 means "there are changes"

Say = Callable[[str], None]
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
                error.exit_code = FAILED  # type: ignore[attr-defined]  # just seen
            raise


app = typer.Typer(
    cls=_Group,
    help="Make a RunPod endpoint what deploy.yaml says. Needs RUNPOD_API_KEY.",
    no_args_is_help=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a command works with; `say` and `warn` hide secrets."""

    file: DeployFile
    deployment: Deployment
    say: Say
    warn: Say

    def wanted(self, image: str | None) -> dict[str, Any]:
        """The whole endpoint as REST v2 takes it.

        Raises:
            DeployError: the image or the environment cannot be deployed.
        """
        endpoint = self.file.endpoint
        chosen = image or endpoint.image
        if not chosen:
            raise DeployError(
                "no image: set endpoint.image in deploy.yaml or give --image REPOSITORY:VERSION"
            )
        environment = resolve_environment(self.file, inherited_environment())
        if wrong := wrong_settings(environment):
            raise DeployError("\n  ".join(["the worker would not start with this environment:", *wrong]))
        for remark in remarks(endpoint, environment):
            self.warn(f"note: {remark}")
        return endpoint.body(check_image(chosen), environment)

    def plan(self, wanted: dict[str, Any]) -> Plan:
        """What must change, shown."""
        todo = self.deployment.plan(wanted)
        for line in _plan_lines(todo):
            self.say(line)
        return todo


@app.command()
def plan(
    file: FileOption = DEPLOY_FILE,
    profile: ProfileOption = None,
    image: ImageOption = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with 2 if there are changes.")] = False,
) -> None:
    """Show what apply would do, and change nothing."""
    with _session(file, profile) as session:
        todo = session.plan(session.wanted(image))
    if todo.changes and exit_code:
        raise typer.Exit(CHANGES)


@app.command()
def apply(
    file: FileOption = DEPLOY_FILE,
    profile: ProfileOption = None,
    image: ImageOption = None,
    wait: Annotated[bool, typer.Option(help="Wait until every worker runs the new release.")] = True,
) -> None:
    """Create or change the endpoint. Doing it twice changes nothing."""
    with _session(file, profile) as session:
        wanted = session.wanted(image)
        live = session.deployment.apply(session.plan(wanted), wanted, wait=wait)
        session.say(f"{live.name} ({live.id}) is as deploy.yaml says")
        if "run" in live.request_urls:
            session.say(f"send jobs to {live.request_urls['run']}")


@app.command()
def status(file: FileOption = DEPLOY_FILE, profile: ProfileOption = None) -> None:
    """Show the endpoint's image, workers, release and addresses."""
    with _session(file, profile) as session:
        api, live = session.deployment.api, session.deployment.find()
        if live is None:
            raise DeployError(f"there is no endpoint called {session.file.endpoint.name}")
        releases = api.releases(live.id)
        counts = api.workers(live.id).model_dump(exclude={"total"})
        rollout = releases.rollout
        reach = f"{rollout.workers_on_latest} of {rollout.workers_total}" if rollout.in_progress else "all"
        session.say(f"{live.name} ({live.id})")
        session.say(f"  image    {live.image}")
        session.say(f"  workers  {', '.join(f'{count} {state}' for state, count in counts.items())}")
        session.say(f"           {live.workers.min} to {live.workers.max}, flashboot {live.flashboot}")
        session.say(f"  release  {releases.endpoint_version}, on {reach} workers")
        for use, url in live.request_urls.items():
            session.say(f"  {use:<10} {url}")


@app.command()
def destroy(
    name: Annotated[str, typer.Argument(help="The endpoint's name, to be sure.")],
    yes: Annotated[bool, typer.Option("--yes", help="Without it nothing is removed.")] = False,
    file: FileOption = DEPLOY_FILE,
    profile: ProfileOption = None,
) -> None:
    """Remove the endpoint and cancel its jobs."""
    with _session(file, profile) as session:
        meant = session.file.endpoint.name
        if name != meant:
            raise DeployError(f"deploy.yaml is about {meant}, not {name}; nothing was removed")
        live = session.deployment.find()
        if live is None:
            session.say(f"there is no endpoint called {meant}")
            return
        busy = session.deployment.api.workers(live.id)
        session.say(f"{live.name} ({live.id}): workers: {busy.total}, at a job: {busy.running}")
        if not yes:
            raise DeployError("this cancels queued and running jobs for good; say --yes to do it")
        session.deployment.destroy(live)
        session.say(f"removed {live.name} ({live.id})")


@contextmanager
def _session(path: Path, profile: str | None) -> Iterator[Session]:
    """What the commands share; an error inside the block is printed and ends the program with status 1."""
    settings = DeploySettings()
    redact = logs.Redactor({settings.api_key.get_secret_value()} if settings.api_key else ())
    logs.configure("WARNING", redact, as_json=False)  # the retries' own lines go through it too
    say, warn = (partial(_print, Console(stderr=is_error), redact) for is_error in (False, True))
    with ExitStack() as hiding:
        try:
            file = read_deploy_file(path, profile)
            here = inherited_environment()
            hiding.enter_context(
                redact.hiding({here[name] for name in file.from_here.values() if here.get(name)})
            )
            name, hidden = file.endpoint.name, file.secrets.keys()
            with open_api(settings) as api:
                it = Deployment(api=api, settings=settings, name=name, hidden=hidden, tell=say)
                yield Session(file=file, deployment=it, say=say, warn=warn)
        except DeployError as error:
            warn(f"error: {error}")
            raise typer.Exit(FAILED) from None


def _print(console: Console, redact: logs.Redactor, line: str) -> None:
    console.print(redact(line), markup=False, highlight=False, soft_wrap=True)


def _plan_lines(todo: Plan) -> Iterator[str]:
    if not todo.changes:
        yield f"{todo.name} ({todo.endpoint_id}): nothing to change"
    elif todo.endpoint_id is None:
        yield f"{todo.name}: to be created"
        yield from (f"  + {change.path}  {change.after}" for change in todo.changes)
    else:
        yield f"{todo.name} ({todo.endpoint_id}): to be changed"
        yield from (f"  ~ {change.path}  {change.before} → {change.after}" for change in todo.changes)
    if todo.makes_release:
        yield "  workers are replaced as they become idle"

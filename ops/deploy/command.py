"""plan, apply, status and destroy as an operator sees them: lines, masked, and an exit code.

Exit codes: 0 fine or nothing to change, 1 error, 2 `plan` found changes. Knows nothing of typer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from handler import logs
from handler.settings import DeploySettings, inherited_environment
from ops.deploy.advice import advice
from ops.deploy.api import RestApi, open_api
from ops.deploy.apply import apply_plan, destroy_endpoint, find_endpoint, plan_endpoint
from ops.deploy.deploy_file import local_secrets, read_deploy_file, resolve_environment
from ops.deploy.environment import wrong_settings
from ops.deploy.errors import DeployError
from ops.deploy.image import check_image
from ops.deploy.plan import Plan
from ops.deploy.schema import DeployFile

FINE, FAILED, CHANGES = 0, 1, 2

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the operator typed."""

    file: Path
    profile: str | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a command works with; `say` and `warn` hide secrets."""

    file: DeployFile
    settings: DeploySettings
    api: RestApi
    say: Say
    warn: Say
    local: dict[str, str]

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
        environment = resolve_environment(self.file, self.local)
        if wrong := wrong_settings(environment):
            raise DeployError("\n  ".join(["the worker would not start with this environment:", *wrong]))
        for remark in advice(endpoint, environment):
            self.warn(f"note: {remark}")
        return endpoint.body(check_image(chosen), environment)


def plan(request: Request, say: Say, warn: Say) -> int:
    """Show what apply would do."""

    def action(desk: Desk) -> int:
        todo = plan_endpoint(desk.api, desk.wanted(request.image), desk.file.secrets.keys())
        _show(todo, desk.say)
        return CHANGES if todo.changes else FINE

    return _run(request, action, say, warn)


def apply(request: Request, say: Say, warn: Say, *, wait: bool = True) -> int:
    """Make the endpoint what deploy.yaml says, and wait until every worker is."""

    def action(desk: Desk) -> int:
        wanted, hidden = desk.wanted(request.image), desk.file.secrets.keys()
        todo = plan_endpoint(desk.api, wanted, hidden)
        _show(todo, desk.say)
        live = apply_plan(desk.api, todo, wanted, desk.settings, hidden=hidden, tell=desk.say, wait=wait)
        desk.say(f"{live.name} ({live.id}) is as deploy.yaml says")
        if "run" in live.request_urls:
            desk.say(f"send jobs to {live.request_urls['run']}")
        return FINE

    return _run(request, action, say, warn)


def status(request: Request, say: Say, warn: Say) -> int:
    """Show what is running."""

    def action(desk: Desk) -> int:
        name = desk.file.endpoint.name
        live = find_endpoint(desk.api, name)
        if live is None:
            raise DeployError(f"there is no endpoint called {name}")
        releases = desk.api.releases(live.id)
        counts = desk.api.workers(live.id).summary.model_dump(exclude={"total"})
        rollout = releases.rollout
        desk.say(f"{live.name} ({live.id})")
        desk.say(f"  image    {live.image}")
        desk.say(f"  workers  {', '.join(f'{count} {state}' for state, count in counts.items())}")
        desk.say(f"           {live.workers.min} to {live.workers.max}, flashboot {live.flashboot}")
        reach = f"{rollout.workers_on_latest} of {rollout.workers_total}" if rollout.in_progress else "all"
        desk.say(f"  release  {releases.endpoint_version}, on {reach} workers")
        for use, url in live.request_urls.items():
            desk.say(f"  {use:<8} {url}")
        return FINE

    return _run(request, action, say, warn)


def destroy(request: Request, say: Say, warn: Say, *, name: str, yes: bool) -> int:
    """Remove the endpoint, if its name was typed and confirmed."""

    def action(desk: Desk) -> int:
        meant = desk.file.endpoint.name
        if name != meant:
            raise DeployError(f"deploy.yaml is about {meant}, not {name}; nothing was removed")
        live = find_endpoint(desk.api, meant)
        if live is None:
            desk.say(f"there is no endpoint called {meant}")
            return FINE
        busy = desk.api.workers(live.id).summary
        desk.say(f"{live.name} ({live.id}): {busy.total} workers, {busy.running} of them at a job")
        if not yes:
            raise DeployError("this cancels queued and running jobs for good; say --yes to do it")
        destroy_endpoint(desk.api, live)
        desk.say(f"removed {live.name} ({live.id})")
        return FINE

    return _run(request, action, say, warn)


def _run(request: Request, action: Callable[[Desk], int], say: Say, warn: Say) -> int:
    try:
        settings = DeploySettings()
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        warn(f"error: RUNPOD_{str(problem['loc'][0]).upper()} - {problem['msg']}")
        return FAILED
    local = inherited_environment()
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    redact = logs.Redactor({key})
    logs.configure("WARNING", redact, as_json=False)  # the retries' own lines go through it too
    try:
        file = read_deploy_file(request.file, request.profile)
        with redact.hiding(local_secrets(file, local)), open_api(settings) as api:
            desk = Desk(
                file=file,
                settings=settings,
                api=api,
                say=lambda line: say(redact(line)),
                warn=lambda line: warn(redact(line)),
                local=local,
            )
            try:
                return action(desk)
            except DeployError as error:
                desk.warn(f"error: {error}")
    except DeployError as error:
        warn(redact(f"error: {error}"))
    return FAILED


def _show(todo: Plan, say: Say) -> None:
    if not todo.changes:
        say(f"{todo.name} ({todo.endpoint_id}): nothing to change")
        return
    say(
        f"{todo.name}: to be created"
        if todo.endpoint_id is None
        else f"{todo.name} ({todo.endpoint_id}): to be changed"
    )
    for change in todo.changes:
        if todo.endpoint_id is None:
            say(f"  + {change.path}  {change.after}")
        else:
            say(f"  ~ {change.path}  {change.before} → {change.after}")
    if todo.makes_release:
        say("  workers are replaced as they become idle")

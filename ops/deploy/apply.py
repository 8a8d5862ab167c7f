"""Find, create, change, wait for and remove one endpoint, by its exact name."""

import time
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from typing import Any

import stamina

from ops.deploy import DeployError
from ops.deploy.api import ApiError, LiveEndpoint, RestApi
from ops.deploy.plan import Plan, make_plan
from ops.deploy.settings import DeploySettings

Tell = Callable[[str], None]

FLASHBOOT_SUFFIXES = ("", "-fb", " -fb")  # older RunPod clients mark FlashBoot in the name


def find_endpoint(api: RestApi, name: str) -> LiveEndpoint | None:
    """The endpoint of exactly this name.

    Raises:
        DeployError: several have it; RunPod does not keep names apart.
    """
    names = [name + suffix for suffix in FLASHBOOT_SUFFIXES]
    found = [endpoint for endpoint in api.endpoints() if endpoint.name in names]
    if len(found) > 1:
        ids = ", ".join(endpoint.id for endpoint in found)
        raise DeployError(f"{len(found)} endpoints are called {name} ({ids}); delete or rename all but one")
    return api.endpoint(found[0].id) if found else None


def plan_endpoint(api: RestApi, wanted: Mapping[str, Any], hidden: Collection[str]) -> Plan:
    """What must change; nothing is written.

    Raises:
        DeployError: it cannot be, or RunPod does not answer.
    """
    _check_pools(api, wanted["gpu"])
    return make_plan(wanted, find_endpoint(api, wanted["name"]), hidden=hidden)


def apply_plan(
    api: RestApi,
    plan: Plan,
    wanted: Mapping[str, Any],
    settings: DeploySettings,
    *,
    hidden: Collection[str],
    tell: Tell,
    wait: bool = True,
) -> LiveEndpoint:
    """Carry a plan out, read back what is there now, and wait until every worker runs it.

    An empty plan only waits: so a run that was cut off after writing is finished by the next.

    Raises:
        DeployError: RunPod refused, keeps other values than it was given, or workers still run the release
            before when the wait ends.
    """
    previous = None
    endpoint_id = plan.endpoint_id
    if endpoint_id is None:
        endpoint_id = _create_once(api, plan, settings).id
        tell(f"created {plan.name} ({endpoint_id})")
    elif plan.changes:
        if plan.makes_release:
            previous = api.releases(endpoint_id).endpoint_version
        api.update(endpoint_id, plan.body)
        tell(f"changed {plan.name} ({endpoint_id})")
    endpoint = find_endpoint(api, plan.name)  # by name, not by id: two runs at a time may have made two
    if endpoint is None or endpoint.id != endpoint_id:
        raise DeployError(
            f"{plan.name} ({endpoint_id}) was written, but RunPod does not list it under its name"
        )
    left = make_plan(wanted, endpoint, hidden=hidden).changes
    if left:
        raise DeployError(
            f"RunPod took the request but keeps other values of: {', '.join(c.path for c in left)}"
        )
    if wait:
        _wait_for_release(api, endpoint_id, previous, settings, tell)
    return endpoint


def destroy_endpoint(api: RestApi, endpoint: LiveEndpoint) -> None:
    """Remove an endpoint with its jobs, and make sure it is gone.

    Raises:
        DeployError: it is not.
    """
    api.delete(endpoint.id)
    if any(other.id == endpoint.id for other in api.endpoints()):
        raise DeployError(
            f"RunPod accepted the removal of {endpoint.id} but still lists it; look at `status`"
        )


def _create_once(api: RestApi, plan: Plan, settings: DeploySettings) -> LiveEndpoint:
    """POST until it is known to have worked: the answer may get lost, so look before each try."""

    def unsettled(error: Exception) -> bool:
        return isinstance(error, ApiError) and error.unsettled

    @stamina.retry(on=unsettled, attempts=settings.attempts, timeout=None, wait_max=8.0)
    def create() -> LiveEndpoint:
        return find_endpoint(api, plan.name) or api.create(plan.body)

    return create()


def _wait_for_release(
    api: RestApi, endpoint_id: str, previous: int | None, settings: DeploySettings, tell: Tell
) -> None:
    """Until all workers run the newest release, which must be newer than `previous` if that is known."""
    deadline = time.monotonic() + settings.deploy_release_seconds
    told = ""
    while True:
        releases = api.releases(endpoint_id)
        rollout, current = releases.rollout, releases.endpoint_version
        listed = previous is None or current is None or current > previous
        if listed and not rollout.in_progress:
            return
        state = (
            f"{rollout.workers_on_latest} of {rollout.workers_total} workers run release {current}"
            if listed
            else "the new release is not listed yet"
        )
        if state != told:
            tell(f"waiting: {state}")
            told = state
        if time.monotonic() >= deadline:
            raise DeployError(f"everything is written, but {state}; busy workers finish first. See `status`")
        time.sleep(settings.poll_seconds)


def _check_pools(api: RestApi, gpu: Mapping[str, Any]) -> None:
    try:
        catalogue = api.gpu_types()
    except ApiError as error:
        if error.status == HTTPStatus.FORBIDDEN:  # a key for endpoints only; RunPod itself checks the pools
            return
        raise
    pools = {card.pool for card in catalogue if card.pool}
    unknown = sorted(set(gpu["pools"]) - pools)
    if unknown:
        raise DeployError(f"gpu.pools: RunPod has no {', '.join(unknown)}; it has {', '.join(sorted(pools))}")
    cards = {card.id for card in catalogue if card.pool in gpu["pools"]}
    strange = sorted(set(gpu.get("excludedTypes", ())) - cards)
    if strange:
        raise DeployError(f"gpu.excludedTypes: not in these pools: {', '.join(strange)}")
    if not cards - set(gpu.get("excludedTypes", ())):
        raise DeployError("gpu.excludedTypes leaves no card")

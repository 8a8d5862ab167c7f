"""Find, create, change, wait for and remove one endpoint, by its exact name."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import stamina

from ops.deploy import DeployError
from ops.deploy.api import ApiError, LiveEndpoint, RestApi
from ops.deploy.plan import Plan, make_plan
from ops.deploy.settings import DeploySettings

FLASHBOOT_SUFFIXES = ("", "-fb", " -fb")  # older RunPod clients mark FlashBoot in the name


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The endpoint of a name; each method raises DeployError if RunPod refuses or does not answer."""

    api: RestApi
    settings: DeploySettings
    name: str
    hidden: Collection[str]  # environment variables that are never shown
    tell: Callable[[str], None]

    def find(self) -> LiveEndpoint | None:
        """The endpoint of exactly this name; an error if several have it, as RunPod allows."""
        names = [self.name + suffix for suffix in FLASHBOOT_SUFFIXES]
        found = [endpoint for endpoint in self.api.endpoints() if endpoint.name in names]
        if len(found) > 1:
            ids = ", ".join(endpoint.id for endpoint in found)
            raise DeployError(
                f"{len(found)} endpoints are called {self.name} ({ids}); delete or rename all but one"
            )
        return self.api.endpoint(found[0].id) if found else None

    def plan(self, wanted: Mapping[str, Any]) -> Plan:
        """What must change; nothing is written."""
        _check_pools(self.api, wanted["gpu"])
        return make_plan(wanted, self.find(), hidden=self.hidden)

    def apply(self, plan: Plan, wanted: Mapping[str, Any], *, wait: bool) -> LiveEndpoint:
        """Carry a plan out, read back what is there now, and wait until every worker runs it.

        An empty plan only waits: so a run that was cut off after writing is finished by the next.
        """
        previous = None
        endpoint_id = plan.endpoint_id
        if endpoint_id is None:
            endpoint_id = self._create_once(plan).id
            self.tell(f"created {plan.name} ({endpoint_id})")
        elif plan.changes:
            if plan.makes_release:
                previous = self.api.releases(endpoint_id).endpoint_version
            self.api.update(endpoint_id, plan.body)
            self.tell(f"changed {plan.name} ({endpoint_id})")
        endpoint = self.find()  # by name, not by id: two runs at a time may have made two
        if endpoint is None or endpoint.id != endpoint_id:
            raise DeployError(
                f"{plan.name} ({endpoint_id}) was written, but RunPod does not list it under its name"
            )
        if left := make_plan(wanted, endpoint, hidden=self.hidden).changes:
            paths = ", ".join(change.path for change in left)
            raise DeployError(f"RunPod took the request but keeps other values of: {paths}")
        if wait:
            self._wait_for_release(endpoint_id, previous)
        return endpoint

    def destroy(self, endpoint: LiveEndpoint) -> None:
        """Remove an endpoint with its jobs, and make sure it is gone."""
        self.api.delete(endpoint.id)
        if any(other.id == endpoint.id for other in self.api.endpoints()):
            raise DeployError(
                f"RunPod accepted the removal of {endpoint.id} but still lists it; look at `status`"
            )

    def _create_once(self, plan: Plan) -> LiveEndpoint:
        """POST until it is known to have worked: the answer may get lost, so look before each try."""

        def unsettled(error: Exception) -> bool:
            return isinstance(error, ApiError) and error.unsettled

        @stamina.retry(on=unsettled, attempts=self.settings.attempts, timeout=None, wait_max=8.0)
        def create() -> LiveEndpoint:
            return self.find() or self.api.create(plan.body)

        return create()

    def _wait_for_release(self, endpoint_id: str, previous: int | None) -> None:
        """Until all workers run the newest release, which must be newer than `previous` if that is known."""
        deadline = time.monotonic() + self.settings.deploy_release_seconds
        told = ""
        while True:
            releases = self.api.releases(endpoint_id)
            rollout, current = releases.rollout, releases.endpoint_version
            state = f"{rollout.workers_on_latest} of {rollout.workers_total} workers run release {current}"
            if previous is not None and current is not None and current <= previous:
                state = "the new release is not listed yet"
            elif not rollout.in_progress:
                return
            if state != told:
                self.tell(f"waiting: {state}")
                told = state
            if time.monotonic() >= deadline:
                raise DeployError(
                    f"everything is written, but {state}; busy workers finish first. See `status`"
                )
            time.sleep(self.settings.poll_seconds)


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

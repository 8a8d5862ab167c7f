"""What must change so that the endpoint is as deploy.yaml says."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from handler.logs import HIDDEN
from ops.deploy import DeployError
from ops.deploy.api import LiveEndpoint
from ops.environment import is_reference, is_secret

# A change of one of these replaces the workers, release by release; the rest is scaling and placement.
CONTAINER = frozenset({"image", "args", "disk", "env", "ports", "registry"})
# RunPod places workers wherever it likes among these: their order says nothing.
UNORDERED = frozenset(
    {"gpu.pools", "gpu.excludedTypes", "gpu.allowedCudaVersions", "dataCenterIds", "networkVolumes"}
)
SELECTION = {"gpu.pools", "gpu.excludedTypes"}  # a PATCH with pools alone clears the exclusions


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference, as it may be shown: secrets are hidden already."""

    path: str  # `env.NAME`, say
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do to the endpoint of a name."""

    name: str
    endpoint_id: str | None  # None: it must be created
    changes: tuple[Change, ...]  # to show; empty: nothing to do
    body: dict[str, Any] = field(repr=False)  # of the POST or the PATCH; holds secrets

    @property
    def makes_release(self) -> bool:
        """Whether running workers will be replaced."""
        fields = {change.path.partition(".")[0] for change in self.changes}
        return self.endpoint_id is not None and not CONTAINER.isdisjoint(fields)


def make_plan(wanted: Mapping[str, Any], live: LiveEndpoint | None, *, hidden: Collection[str] = ()) -> Plan:
    """The smallest change that makes the endpoint what is wanted.

    Args:
        wanted: the body that would create the endpoint.
        live: the endpoint of that name, if there is one.
        hidden: environment variables that are never shown, beside those that sound like secrets.

    Raises:
        DeployError: the endpoint cannot become what is wanted.
    """
    after = _flat(wanted)
    before: dict[str, Any] = {}
    if live is not None:
        _refuse_other_kinds(wanted, live)
        before = _flat(_as_body(live, wanted))
    shown = {path for path in after if path.partition(".")[2] not in hidden}
    pairs = ((path, before.get(path), after.get(path)) for path in sorted(before.keys() | after.keys()))
    changes = tuple(
        Change(path=path, before=_text(path, old, shown), after=_text(path, new, shown))
        for path, old, new in pairs
        if old != new
    )
    gpu = {name: part for name, part in wanted["gpu"].items() if part not in (None, [], ())}
    body = {**wanted, "gpu": gpu} if live is None else _patch([change.path for change in changes], wanted)
    return Plan(name=wanted["name"], endpoint_id=live.id if live else None, changes=changes, body=body)


def _refuse_other_kinds(wanted: Mapping[str, Any], live: LiveEndpoint) -> None:
    if live.gpu is None or (live.type or wanted["type"]) != wanted["type"]:
        raise DeployError(
            f"endpoint {live.name} ({live.id}) is no {wanted['type']} endpoint on GPUs, and RunPod cannot "
            "make it one; destroy it or choose another name"
        )


def _as_body(live: LiveEndpoint, wanted: Mapping[str, Any]) -> dict[str, Any]:
    body = live.model_dump(mode="json", by_alias=True, exclude={"id", "name", "type", "request_urls"})
    left_alone = {"args", "ports", "registry"} - wanted.keys()
    return {key: value for key, value in body.items() if key not in left_alone}


def _flat(body: Mapping[str, Any]) -> dict[str, Any]:
    """Comparable values by path: order where it means nothing is gone, and so is the way of saying "none"."""
    flat: dict[str, Any] = {}
    for key, value in body.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": part for name, part in value.items()}
        elif key not in ("name", "type"):
            flat[key] = value
    for path, value in flat.items():
        if isinstance(value, list | tuple):
            flat[path] = tuple(sorted(value)) if path in UNORDERED else tuple(value)
    return {
        path: (None if value in (None, ()) or (value == "" and path == "gpu.minCudaVersion") else value)
        for path, value in flat.items()
    }


def _patch(paths: list[str], wanted: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for path in paths:
        top, _, part = path.partition(".")
        if top != "gpu":
            body[top] = wanted[top]  # env, workers and scaling as a whole
            continue
        gpu = body.setdefault("gpu", {})
        if path in SELECTION:
            gpu |= {"pools": wanted["gpu"]["pools"], "excludedTypes": wanted["gpu"]["excludedTypes"]}
        else:
            gpu[part] = wanted["gpu"].get(part, "")  # "" takes the CUDA floor away
    return body


def _text(path: str, value: object, shown: Collection[str]) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    text = f"{value:g}" if isinstance(value, float) else str(value)
    top, _, name = path.partition(".")
    if top == "env" and not is_reference(text) and (is_secret(name) or path not in shown):
        return HIDDEN  # a variable that deploy.yaml does not name may hold anything
    return text or '""'

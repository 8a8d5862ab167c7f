"""What the operator who deploys can set, and the constants beside them."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from handler.settings import EnvironmentSettings


def _encrypted(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("is not a URL with a host")
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise ValueError("must be https (the API key travels with each request)")
    return url.rstrip("/")


class DeploySettings(EnvironmentSettings):
    """How `python -m handler deploy` reaches RunPod's REST API; nothing here concerns a worker."""

    model_config = SettingsConfigDict(env_prefix="RUNPOD_")

    api_key: SecretStr | None = Field(default=None, description="API key; deploy only, never on a worker.")
    deploy_url: Annotated[str, AfterValidator(_encrypted)] = Field(
        default="https://api.runpod.io/v2", description="Address of the REST API."
    )
    deploy_release_seconds: float = Field(
        default=900.0, ge=0, description="Longest wait until all workers run a new release."
    )

    timeout_seconds: float = 30.0  # for an answer
    attempts: int = 5  # of a request that the API refused for the moment
    longest_wait_seconds: float = 60.0  # an hour's quota that is spent is the operator's decision
    poll_seconds: float = 5.0  # between two looks at a release

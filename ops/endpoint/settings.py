"""What the operator of one machine can set, and the constants beside them."""

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from handler.settings import EnvironmentSettings, IntakeSettings, Ports

ENDPOINT_ID = "local"  # in every URL, as RunPod has it; clients read the whole URL from client.env


class ServeSettings(EnvironmentSettings):
    """The endpoint on one machine (`python -m handler serve`), with RunPod's figures where it gives them."""

    model_config = SettingsConfigDict(env_prefix="SERVE_")

    api_key: SecretStr | None = Field(
        default=None, description="Bearer key that clients must send; required to listen beyond loopback."
    )
    execution_timeout_seconds: float = Field(
        default=6 * 3600, gt=0, description="Longest run of a job whose policy does not say."
    )
    ttl_seconds: float = Field(
        default=24 * 3600, gt=0, description="Life of an unfinished job whose policy does not say."
    )
    result_seconds: float = Field(default=1800, gt=0, description="How long results of /run are kept.")
    max_attempts: int = Field(
        default=3, ge=1, description="Workers that may vanish with a job before it fails as WORKER_LOST."
    )
    lease_seconds: float = Field(
        default=30, gt=0, description="A job whose worker was silent for so long goes back to the queue."
    )
    stop_seconds: float = Field(
        default=15, gt=0, description="Time a worker has to end after SIGTERM, or after a job was stopped."
    )

    sync_result_seconds: float = 60.0  # RunPod's; who waits on /runsync is there to read the result
    ping_seconds: int = 5  # several heartbeats in a lease
    hold_seconds: float = 20.0  # a request for a job is held open; the SDK gives up after 90 s
    request_seconds: float = 75.0  # for a request to arrive; aiohttp's life of an idle connection
    webhook_attempts: int = 3  # this and the next are RunPod's
    webhook_interval_seconds: float = 10.0
    webhook_timeout_seconds: float = 10.0


class LocalIntakeSettings(IntakeSettings):
    """`VIDEO_` settings whose defaults are others under `serve`: its store speaks http on a high port."""

    allow_http: bool = Field(default=True, description="Accept http:// video URLs.")
    allow_private_addresses: bool = Field(
        default=True, description="Accept loopback and private addresses, for webhooks too."
    )
    allowed_ports: Ports = Field(default=(), description="Ports a URL may name, or `any`.")

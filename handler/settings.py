"""Every limit and address of the handler, read from the environment once."""

import json
import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)


class _DescribedFields(EnvSettingsSource):
    """The environment, for fields that have a description."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[object, str, bool]:
        if field.description is None:
            return None, field_name, False
        return super().get_field_value(field, field_name)


class EnvironmentSettings(BaseSettings):
    """Fields with a description are environment variables; empty ones count as unset.

    The others are constants, with the reason for their value beside them; only tests pass other values.
    """

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment."""
        assert isinstance(env_settings, EnvSettingsSource)
        return init_settings, _DescribedFields(settings_cls, env_prefix=env_settings.env_prefix)


def _words(value: object) -> object:
    """`a, b`, `["a", "b"]` as JSON, or `any` for no words at all."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return () if value.strip() == "any" else [word.strip() for word in value.split(",")]


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Ports = Annotated[tuple[int, ...], NoDecode, BeforeValidator(_words)]


class IntakeSettings(EnvironmentSettings):
    """What a source video may be and where it may come from."""

    model_config = SettingsConfigDict(env_prefix="VIDEO_")
    trusts_urls: ClassVar[bool] = False  # strangers write them

    allow_http: bool = Field(default=False, description="Accept http:// URLs.")
    allow_private_addresses: bool = Field(
        default=False, description="Accept URLs that resolve to private addresses (one machine only)."
    )
    allowed_hosts: Words = Field(
        default=(), description="If set, only these hosts and their subdomains are accepted: `a.com,b.com`."
    )
    allowed_ports: Ports = Field(default=(443, 80), description="Ports accepted, or `any`.")
    max_bytes: int = Field(default=20 * 1024**3, gt=0, description="Largest video, bytes.")
    max_duration_seconds: float = Field(
        default=6 * 3600, gt=0, description="Longest video part to process, seconds."
    )
    max_pixels: int = Field(default=7680 * 4320, gt=0, description="Most pixels in a frame.")
    reserve_disk_bytes: int = Field(default=1024**3, ge=0, description="Disk space left free.")

    max_frames: int = 2_000_000  # six hours at 90 frames per second
    max_fps: float = 1000.0  # no camera's film of people is faster; a higher rate is a broken header
    max_streams: int = 32  # cameras write fewer than ten; each costs memory when a file is opened
    connect_seconds: float = 10.0  # a handshake takes a few round trips
    read_seconds: float = 30.0  # of silence; stores that are busy pause for a few seconds
    download_seconds: float = (
        3600.0  # against servers that send a byte now and then; a job's limit is its budget
    )
    min_bytes_per_second: float = 16 * 1024  # slower than any line that a video is sent over
    min_rate_seconds: float = 30.0  # the window of that rate: as long as silence is borne
    download_attempts: int = 5  # each resumes where the last one stopped
    max_redirects: int = 5  # stores redirect once or twice; each one is checked


class BucketSettings(EnvironmentSettings):
    """Where results go; the names that RunPod's own helpers use, and two more."""

    model_config = SettingsConfigDict(env_prefix="BUCKET_")

    endpoint_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/\s]+",
        examples=["https://s3.example.com"],
        description="S3 endpoint; default: what boto3's own settings say (`AWS_ENDPOINT_URL_S3`), AWS.",
    )
    access_key_id: SecretStr | None = Field(default=None, description="Access key.")
    secret_access_key: SecretStr | None = Field(default=None, description="Secret key.")
    name: str | None = Field(default=None, description="Default bucket.")
    region: str | None = Field(default=None, description="Region; `auto` for R2.")
    root_prefix: str = Field(default="", description="Every key lies under this prefix.")
    addressing_style: Literal["auto", "path", "virtual"] | None = Field(
        default=None, description="Default: path with a custom endpoint, auto on AWS."
    )
    part_bytes: int = Field(default=16 * 1024**2, ge=5 * 1024**2, description="Multipart part size, bytes.")
    upload_seconds: float = Field(default=1800.0, gt=0, description="Limit for all uploads of a job.")

    attempts: int = 5  # of each request, with growing waits; `upload_seconds` bounds them all
    connect_seconds: float = 10.0  # a handshake takes a few round trips
    read_seconds: float = 30.0  # of silence, each attempt; busy stores pause for a few seconds


class WorkerSettings(EnvironmentSettings):
    """How jobs are run."""

    model_config = SettingsConfigDict(env_prefix="WORKER_")

    scratch: Path = Field(default=Path("/tmp/hmr2-jobs"), description="Folder of the jobs' temporary files.")  # noqa: S108 - per-job folders inside are 0700
    batch_frames: int = Field(default=8, ge=1, le=256, description="Frames per perception batch.")
    time_budget_seconds: float = Field(
        default=6 * 3600 - 60,
        gt=0,
        description="A job ends itself after this; keep it below the endpoint's timeout.",
    )
    stall_seconds: float = Field(
        default=300.0, gt=0, description="A job without progress for this long fails."
    )
    progress_interval_seconds: float = Field(default=1.0, gt=0, description="Shortest time between updates.")
    recycle_after_jobs: int = Field(
        default=0, ge=0, description="Ask for a new worker after this many jobs; 0 = never."
    )
    recycle_growth_bytes: int = Field(
        default=4 * 1024**3,
        ge=0,
        description="Ask for a new worker when memory has grown by this much; 0 = never.",
    )
    shutdown_seconds: float = Field(
        default=7.0,
        gt=0,
        description="From SIGTERM to the end of a busy worker; its job may finish in three quarters of it.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Log level.")

    decode_queue_frames: int = 16  # two batches: the device never waits for the decoder
    perceive_ahead_batches: int = 2  # one waits while one is in the making; more would only cost memory
    progress_drain_seconds: float = 10.0  # for updates at a job's end; a queue that answers takes under one


class ClearCacheSettings(EnvironmentSettings):
    """When unused device memory is given back."""

    model_config = SettingsConfigDict(env_prefix="CLEAR_CACHE_")

    every_frames: int = Field(
        default=1, ge=0, description="Clear the device cache after this many frames; 0 = never."
    )


class PlatformSettings(EnvironmentSettings):
    """What RunPod itself puts into a worker's environment; the SDK reads the rest."""

    model_config = SettingsConfigDict(env_prefix="RUNPOD_")

    ai_api_key: SecretStr | None = Field(default=None, description="Key of the job queue; only ever hidden.")


def quiet_platform_logs() -> None:
    """Make RunPod's SDK log at INFO unless told otherwise; its own default, DEBUG, prints whole jobs.

    Must run before `import runpod`; child processes inherit it.
    """
    os.environ.setdefault("RUNPOD_LOG_LEVEL", "INFO")  # noqa: TID251 - this file is the place for it


class Settings(BaseModel):
    """All settings of a worker; each part reads the environment itself."""

    model_config = ConfigDict(frozen=True)

    intake: IntakeSettings = Field(default_factory=IntakeSettings)
    bucket: BucketSettings = Field(default_factory=BucketSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    clear_cache: ClearCacheSettings = Field(default_factory=ClearCacheSettings)
    platform: PlatformSettings = Field(default_factory=PlatformSettings)

    def secrets(self) -> set[str]:
        """Values that must never be shown."""
        kept = (self.bucket.access_key_id, self.bucket.secret_access_key, self.platform.ai_api_key)
        return {secret.get_secret_value() for secret in kept if secret is not None}


def inherited_environment() -> dict[str, str]:
    """This process's environment, for the worker processes it starts and for values deploy.yaml refers to."""
    return dict(os.environ)  # noqa: TID251 - this file is the place for it

"""What the weights commands read from the environment: sources, credentials, limits. No worker reads them."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from handler.settings import EnvironmentSettings

LOCK_FILE = "weights.lock.json"


class WeightSettings(EnvironmentSettings):
    """Where `python -m handler weights fetch` finds the official files; a worker reads none of this.

    A source is `https://...` (also presigned, or a file-sharing service's direct link), `s3://bucket/key`,
    or a path. It may be the file itself or an archive (tar, zip) that holds it. Sources are secrets: a
    presigned URL is one.
    """

    model_config = SettingsConfigDict(env_prefix="WEIGHTS_")

    hmr2_data: SecretStr | None = Field(
        default=None, description="hmr2_data.tar.gz: checkpoint, configuration and joint regressor in one."
    )
    hmr2_checkpoint: SecretStr | None = Field(default=None, description="epoch=35-step=1000000.ckpt")
    hmr2_config: SecretStr | None = Field(default=None, description="model_config.yaml")
    joint_regressor: SecretStr | None = Field(default=None, description="SMPL_to_J19.pkl")
    smpl: SecretStr | None = Field(
        default=None, description="SMPL_NEUTRAL.pkl or .npz: yours alone to give, it is never downloaded."
    )
    appearance_checkpoint: SecretStr | None = Field(default=None, description="hmar_v2_weights.pth")
    predictor_checkpoint: SecretStr | None = Field(default=None, description="pose_predictor.pth")
    predictor_config: SecretStr | None = Field(default=None, description="pose_predictor.yaml")
    pose_mean_std: SecretStr | None = Field(default=None, description="mean_std.npy")
    uv_barycentric: SecretStr | None = Field(default=None, description="bmap_256.npy")
    uv_faces: SecretStr | None = Field(default=None, description="fmap_256.npy")
    upstream_vitdet: SecretStr | None = Field(default=None, description="PHALP's detector ViTDet.")
    upstream_maskrcnn: SecretStr | None = Field(default=None, description="PHALP's detector Mask R-CNN.")
    detector_config: SecretStr | None = Field(default=None, description="The detector's config.json.")
    detector_weights: SecretStr | None = Field(default=None, description="The detector's model.safetensors.")
    detector_repository: str | None = Field(
        default=None,
        pattern=r"^[\w.-]+/[\w.-]+$",
        description="Hub repository of the detector; default Roboflow/ and the name in DETECTOR.",
    )
    detector_revision: str = Field(
        default="main",
        pattern=r"^[\w./-]+$",
        description="Its commit, tag or branch; a branch is pinned to its commit when it is first fetched.",
    )
    hub_url: str = Field(default="https://huggingface.co", description="The hub, or a mirror of it.")
    mirror: SecretStr | None = Field(
        default=None,
        description="A folder (a network volume, say), s3://bucket/prefix or https://host/folder with "
        "the files by their official names; asked after a file's own source, before the official hosts.",
    )
    official_hosts: bool = Field(
        default=True, description="Ask the authors' hosts and the hub for what has no source of its own."
    )
    lock: Path | None = Field(
        default=None, description="File of recorded hashes; default weights.lock.json in the store."
    )
    ca_file: Path | None = Field(default=None, description="PEM file of one more authority to trust.")
    allow_http: bool = Field(default=False, description="Accept http:// sources (inside a private network).")

    attempts: int = 5  # in a row that bring nothing; a download that moves may go on for ever
    connect_seconds: float = 15.0  # the authors' hosts are slow
    read_seconds: float = 60.0  # of silence, for the same reason
    retry_seconds: float = 1.0  # before the second attempt; it doubles
    reserve_disk_bytes: int = 512 * 1024**2  # left free, for whatever else writes there

    def source(self, name: str) -> str | None:
        """The operator's own source of a file, or None."""
        value: SecretStr | None = getattr(self, name, None)
        return value.get_secret_value() if value else None

    def lock_file(self, store: Path) -> Path:
        """The file of recorded hashes for a store."""
        return self.lock or store / LOCK_FILE


class WeightStorageSettings(EnvironmentSettings):
    """Credentials of `s3://` sources; without any of these, those of BUCKET_*, else what boto3 finds."""

    model_config = SettingsConfigDict(env_prefix="WEIGHTS_S3_")

    endpoint_url: str | None = Field(default=None, description="S3 endpoint; default AWS.")
    access_key_id: SecretStr | None = Field(default=None, description="Access key.")
    secret_access_key: SecretStr | None = Field(default=None, description="Secret key.")
    region: str | None = Field(default=None, description="Region; `auto` for R2.")


def weight_storage() -> WeightStorageSettings:
    """The credentials for `s3://` sources: WEIGHTS_S3_*, or else the results' BUCKET_*; never a mixture."""
    own = WeightStorageSettings()
    return own if own.model_fields_set else WeightStorageSettings(_env_prefix="BUCKET_")

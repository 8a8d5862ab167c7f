"""Which models are loaded, from where and how, read from the environment once."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from model_cache.registry import HMR2, MOVENET, LoadOptions


class ModelSettings(BaseSettings):
    """The worker's models; every field is an environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(frozen=True, protected_namespaces=())

    models: Literal["auto", "official", "lite"] = Field(
        default="auto",
        description="official: refuse to start without the official weights. lite: the bundled small models. "
        "auto: official where its files are there, else lite.",
    )
    model_store: Path = Field(
        default=Path.home() / ".cache" / "hmr2-phalp", description="Folder of the converted official weights."
    )
    model_device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")
    model_precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="Precision of the ViT and the detector; auto: bf16 on a GPU that has it, else fp32.",
    )
    model_threads: int = Field(
        default=0, ge=0, description="CPU threads of the networks; 0: torch's default."
    )
    detector: str = Field(
        default="rf-detr-seg-large",
        description="rf-detr-seg-nano, -small, -medium, -large, -xlarge or -xxlarge; movenet-multipose (the "
        "default beside the lite models); a folder of the store, or an absolute one, with an RF-DETR-Seg "
        "checkpoint; or a detector of your own as package.module:Name (docs/16-another-detector.md).",
    )
    detector_score_floor: float = Field(
        default=0.3, ge=0, lt=1, description="Detections below this score never leave the detector."
    )
    body_regressor: str = Field(
        default=HMR2,
        description="hmr2, or a network of your own as package.module:Name "
        "(docs/17-another-body-regressor.md).",
    )
    max_batch_crops: int = Field(
        default=32, ge=1, le=512, description="Most person crops in one batch of the body regressor."
    )
    engine: Literal["native", "upstream"] = Field(
        default="native",
        description="native: our own inference. upstream: the official hmr2 and phalp packages "
        "(docs/13-engines.md), always with the official weights in fp32.",
    )
    upstream_detector: Literal["vitdet", "maskrcnn", "native"] = Field(
        default="vitdet",
        description="Of ENGINE=upstream: one of PHALP's own (they need detectron2), or the one in DETECTOR.",
    )
    upstream_detector_weights: Path | None = Field(
        default=None,
        description="The official detector's checkpoint; default the store, else where detectron2 keeps it.",
    )
    upstream_script: Path | None = Field(
        default=None, description="4D-Humans' track.py; default beside the installed package hmr2."
    )

    @property
    def lite_detector(self) -> str:
        """The detector beside the lite models: the bundled one, unless DETECTOR is set."""
        return self.detector if "detector" in self.model_fields_set else MOVENET

    def load_options(
        self, name: str, device: str = "cpu", precision: Literal["fp32", "bf16"] = "fp32"
    ) -> LoadOptions:
        """What the loader of a named model is called with."""
        return LoadOptions(
            name=name,
            store=self.model_store,
            device=device,
            precision=precision,
            num_threads=self.model_threads,
            score_floor=self.detector_score_floor,
        )


class WeightSettings(BaseSettings):
    """Where `python -m model_cache fetch` finds the official files; a worker reads none of this.

    A source is `https://...` (also presigned, or a file-sharing service's direct link), `s3://bucket/key`,
    or a path. It may be the file itself or an archive (tar, zip) that holds it. Sources are secrets: a
    presigned URL is one.
    """

    model_config = SettingsConfigDict(env_prefix="WEIGHTS_", frozen=True, env_ignore_empty=True)

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
    attempts: int = Field(default=5, ge=1, description="Attempts in a row that may bring nothing.")
    connect_seconds: float = Field(default=15.0, gt=0, description="Limit for a connection.")
    read_seconds: float = Field(default=60.0, gt=0, description="Limit for silence while downloading.")
    retry_seconds: float = Field(default=1.0, ge=0, description="Wait before the second attempt; it doubles.")
    wait_seconds: float = Field(
        default=3600.0, ge=0, description="Longest wait for another process that writes the store."
    )
    reserve_disk_bytes: int = Field(default=512 * 1024**2, ge=0, description="Disk space left free.")

    def source(self, name: str) -> str | None:
        """The operator's own source of a file, or None."""
        value: SecretStr | None = getattr(self, name, None)
        return value.get_secret_value() if value else None


class WeightStorageSettings(BaseSettings):
    """Credentials of `s3://` sources; without any of these, those of BUCKET_*, else what boto3 finds."""

    model_config = SettingsConfigDict(env_prefix="WEIGHTS_S3_", frozen=True, env_ignore_empty=True)

    endpoint_url: str | None = Field(default=None, description="S3 endpoint; default AWS.")
    access_key_id: SecretStr | None = Field(default=None, description="Access key.")
    secret_access_key: SecretStr | None = Field(default=None, description="Secret key.")
    region: str | None = Field(default=None, description="Region; `auto` for R2.")


def weight_storage() -> WeightStorageSettings:
    """The credentials for `s3://` sources: WEIGHTS_S3_*, or else the results' BUCKET_*; never a mixture."""
    own = WeightStorageSettings()
    return own if own.model_fields_set else WeightStorageSettings(_env_prefix="BUCKET_")

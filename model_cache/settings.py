"""Which models are loaded, from where and how, read from the environment once."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from model_cache.registry import HMR2, MOVENET, LoadOptions


class ModelSettings(BaseSettings):
    """The worker's models; every field is an environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, protected_namespaces=())

    models: Literal["auto", "official", "lite"] = Field(
        default="auto",
        description="official: refuse to start without the official weights. lite: the bundled small models. "
        "auto: official where its files are there, else lite.",
    )
    model_store: Path = Field(
        default=Path.home() / ".cache" / "hmr2-phalp", description="Folder of the converted official weights."
    )
    model_device: str = Field(
        default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N."
    )
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
        description="Of ENGINE=upstream. vitdet, maskrcnn: PHALP's own, which need detectron2. "
        "native: the one in DETECTOR.",
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

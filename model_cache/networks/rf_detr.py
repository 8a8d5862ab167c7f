"""RF-DETR-Seg (transformers) as a detector, with our own pre- and post-processing."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from model_cache.errors import WeightsInvalid, WeightsMissing
from model_cache.networks.detector import Candidates, Detector
from model_cache.registry import LoadOptions
from model_cache.store.manifest import FETCH

COCO_PERSON = 1  # RF-DETR's 91 logits are indexed by COCO category id
IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)


class RfDetrSegDetector(Detector):
    """`RfDetrForInstanceSegmentation`, on its device, in eval mode; instance masks, no NMS.

    Frames are squashed to squares of `image_size` pixels. People below `score_floor` are not returned.
    """

    def __init__(
        self, network: nn.Module, *, image_size: int, score_floor: float, weights: Mapping[str, Path]
    ) -> None:
        self.weights = weights
        self._network = network
        self._score_floor = score_floor
        self._size = image_size
        parameter = next(network.parameters())
        self._dtype = parameter.dtype
        self._mean = torch.tensor(IMAGENET_MEAN_RGB, device=parameter.device).view(1, 3, 1, 1)
        self._std = torch.tensor(IMAGENET_STD_RGB, device=parameter.device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def detect(
        self, frames_bgr: Sequence[UInt8[Tensor, "_ _ 3"]], frame_indices: Sequence[int]
    ) -> list[Candidates]:
        """People of each frame, by descending score; one network pass over all frames."""
        return self._detect(frames_bgr, self._score_floor)

    @torch.inference_mode()
    def warm_up(self, frames_bgr: Sequence[UInt8[Tensor, "_ _ 3"]]) -> None:
        """Run the network once, and paint the mask of the highest-scoring person."""
        for candidates in self._detect(frames_bgr, score_floor=-1.0):
            candidates.paint_masks(torch.zeros(1, dtype=torch.int64, device=candidates.scores.device))

    def _detect(self, frames_bgr: Sequence[UInt8[Tensor, "_ _ 3"]], score_floor: float) -> list[Candidates]:
        pixels = torch.cat([self._squash(frame) for frame in frames_bgr])
        output = self._network(pixel_values=pixels)
        of_frames = zip(output.logits, output.pred_boxes, output.pred_masks, frames_bgr, strict=True)
        return [_candidates(*of_frame, score_floor) for of_frame in of_frames]

    def _squash(self, frame_bgr: UInt8[Tensor, "h w 3"]) -> Float[Tensor, "1 3 s s"]:
        """RGB, square without letterbox, ImageNet statistics, as RF-DETR was trained."""
        rgb = frame_bgr.permute(2, 0, 1).flip(0)[None].float() / 255
        square = F.interpolate(rgb, (self._size, self._size), mode="bilinear", antialias=True)
        return ((square - self._mean) / self._std).to(self._dtype)


def _candidates(
    logits: Float[Tensor, "q c"],
    boxes_cxcywh: Float[Tensor, "q 4"],
    mask_logits: Float[Tensor, "q s s"],
    frame_bgr: UInt8[Tensor, "h w 3"],
    score_floor: float,
) -> Candidates:
    height, width = frame_bgr.shape[:2]
    scores = logits[:, COCO_PERSON].float().sigmoid()
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[scores[order] > score_floor]
    centre, size = boxes_cxcywh[order, :2].float(), boxes_cxcywh[order, 2:].float()
    scale = torch.tensor([width, height], device=scores.device)
    bbox_xyxy = torch.cat([(centre - size / 2) * scale, (centre + size / 2) * scale], dim=1)
    # keep the small logits of the kept queries only; the batch's tensor can go
    kept = mask_logits[order].float()

    def paint_masks(rows: Int64[Tensor, " k"]) -> Bool[Tensor, "k h w"]:
        if not len(rows):  # which `interpolate` refuses
            return torch.zeros((0, height, width), dtype=torch.bool, device=scores.device)
        full = F.interpolate(kept[rows][None], (height, width), mode="bilinear", align_corners=False)
        return full[0] > 0

    return Candidates(bbox_xyxy=bbox_xyxy, scores=scores[order], paint_masks=paint_masks)


def load_rf_detr(options: LoadOptions) -> RfDetrSegDetector:
    """RF-DETR-Seg of any size from the store's folder of its name, laid out as on the hub.

    Raises:
        WeightsMissing: the folder or one of its two files is not there.
        WeightsInvalid: the files do not hold an RF-DETR-Seg of at least the person class.
    """
    folder = options.store / options.name
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise WeightsMissing(
                f"the detector's {name} is not in {folder.name}: run `{FETCH} --only detector`"
            )
    from transformers import RfDetrForInstanceSegmentation  # slow import, only where it is used
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        network, report = RfDetrForInstanceSegmentation.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise WeightsInvalid(f"{folder.name} does not hold an RF-DETR-Seg checkpoint: {error}") from error
    if report["missing_keys"] or report["mismatched_keys"]:
        missing = ", ".join(sorted(map(str, report["missing_keys"]))[:3])
        raise WeightsInvalid(f"{folder.name} lacks weights of RF-DETR-Seg, such as {missing}")
    if network.config.num_labels <= COCO_PERSON:
        raise WeightsInvalid(f"{folder.name} has no person class")
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    return RfDetrSegDetector(
        network.to(options.device, dtype).eval(),
        image_size=int(network.config.backbone_config.image_size),
        score_floor=options.score_floor,
        weights={folder.name: folder / "model.safetensors"},
    )

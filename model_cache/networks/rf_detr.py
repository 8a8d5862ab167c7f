"""RF-DETR-Seg (transformers) as a detector, with our own pre- and post-processing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from numpy import ndarray
from torch import Tensor, nn

from model_cache.errors import WeightsInvalid, WeightsMissing
from model_cache.networks.detector import Candidates, Detector
from model_cache.networks.device import to_host
from model_cache.registry import LoadOptions
from model_cache.store.manifest import FETCH

COCO_PERSON = 1  # RF-DETR's 91 logits are indexed by COCO category id
IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)
PAINTED_PIXELS = 1 << 24  # 64 MB of logits: eight full-HD masks at once, two in 4K


class RfDetrSegDetector(Detector):
    """`RfDetrForInstanceSegmentation`, on its device, in eval mode; instance masks, no NMS.

    Frames are squashed to squares of `image_size` pixels. People below `score_floor` are not returned. The
    network runs in the precision of its parts (see `in_bf16`); shapes on the device hang on no number there.
    """

    def __init__(
        self, network: nn.Module, *, image_size: int, score_floor: float, weights: Mapping[str, Path]
    ) -> None:
        self.weights = weights
        self._network: Any = network
        self._score_floor = score_floor
        self._size = image_size
        device = next(network.parameters()).device
        self._mean = torch.tensor(IMAGENET_MEAN_RGB, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(IMAGENET_STD_RGB, device=device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def detect(
        self, frames_bgr: Sequence[UInt8[Tensor, "_ _ 3"]], frame_indices: Sequence[int]
    ) -> list[Candidates]:
        """People of each frame, by descending score; one network pass over all frames, waited for once.

        They hold the mask logits of the whole batch: in the large size 10 MB a frame in bf16.
        """
        people, mask_logits = self.run(torch.cat([self._squash(frame) for frame in frames_bgr]))
        (rows,) = to_host(people)
        return [
            _candidates(*of_frame, self._score_floor)
            for of_frame in zip(rows, mask_logits, frames_bgr, strict=True)
        ]

    @torch.inference_mode()
    def warm_up(self, frames_bgr: Sequence[UInt8[Tensor, "_ _ 3"]]) -> None:
        """Run the network, and paint the mask of the first query however unlikely."""
        _, mask_logits = self.run(torch.cat([self._squash(frame) for frame in frames_bgr]))
        for logits, frame in zip(mask_logits, frames_bgr, strict=True):
            paint(logits[:1], *frame.shape[:2])

    def run(
        self, pixels: Float[Tensor, "b 3 s s"]
    ) -> tuple[Float32[Tensor, "b q 5"], Float[Tensor, "b q m m"]]:
        """The network's own forward pass, less what nobody reads, and less its uploads of constants.

        Returns:
            Of each query its box (cx, cy, w, h) as shares of the frame and its score as a person, which is
            NaN where its mask logits are not finite; and the mask logits.
        """
        network = self._network
        model = network.model.model
        features = model.backbone.projector(model.backbone.backbone(pixels).feature_maps)
        tokens = features.flatten(2).transpose(1, 2).float()
        batch, sides = len(pixels), [features.shape[2:]]
        nowhere = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)  # no padded pixels
        proposals = model.gen_encoder_output_proposals(tokens, nowhere, sides)
        _, boxes, _ = model.generate_topk_proposals(0, *proposals, model.num_queries)
        learned = model.reference_point_embed.weight[: model.num_queries]
        boxes = _refine(boxes, learned.expand(batch, -1, -1))
        decoded = model.decoder(
            inputs_embeds=model.query_feat.weight[: model.num_queries].expand(batch, -1, -1),
            reference_points=boxes,
            spatial_shapes_list=sides,
            valid_ratios=tokens.new_ones(batch, 1, 2),
            encoder_hidden_states=tokens,
        ).last_hidden_state
        logits, boxes = network.model.predict_class_and_boxes(decoded, boxes)

        mask_side = self._size // network.downsample_ratio
        spatial = F.interpolate(features, (mask_side, mask_side), mode="bilinear", align_corners=False)
        for block in network.blocks:
            spatial = block(spatial)
        mask_logits = network.get_mask_logits(
            decoded.to(spatial.dtype), network.spatial_features_proj(spatial)
        )
        scores = logits[..., COCO_PERSON].sigmoid() + 0 * mask_logits.sum((2, 3))
        return torch.cat([boxes, scores[..., None]], dim=2), mask_logits

    def _squash(self, frame_bgr: UInt8[Tensor, "h w 3"]) -> Float32[Tensor, "1 3 s s"]:
        """RGB, square without letterbox, ImageNet statistics, as RF-DETR was trained."""
        rgb = frame_bgr.permute(2, 0, 1).flip(0)[None].float() / 255
        square = F.interpolate(rgb, (self._size, self._size), mode="bilinear", antialias=True)
        return (square - self._mean) / self._std


def in_bf16(network: Any) -> Any:
    """The network with its backbone, projector and mask head in bf16: 139 of large's 151 GFLOP a frame.

    What places boxes stays in float32: to bf16 the right half of a full-HD frame has a grid of 7.5 pixels.
    """
    heads = (network.spatial_features_proj, network.query_features_block, network.query_features_proj)
    for part in (network.model.model.backbone, network.blocks, *heads):
        part.to(torch.bfloat16)
    network.segmentation_bias.data = network.segmentation_bias.data.to(torch.bfloat16)
    return network


def _refine(boxes_cxcywh: Float[Tensor, "b q 4"], deltas: Float[Tensor, "b q 4"]) -> Float[Tensor, "b q 4"]:
    """Boxes moved by shares of their sizes, and their sizes by factors."""
    centre, size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return torch.cat([deltas[..., :2] * size + centre, deltas[..., 2:].exp() * size], dim=-1)


def _candidates(
    people: Float32[ndarray, "q 5"],
    mask_logits: Float[Tensor, "q s s"],
    frame_bgr: UInt8[Tensor, "h w 3"],
    score_floor: float,
) -> Candidates:
    height, width = frame_bgr.shape[:2]
    scores = people[:, 4]
    order = np.argsort(-scores, kind="stable")
    order = order[~(scores[order] <= score_floor)]  # what is not a number stays, for perception to refuse
    centre, size = people[order, :2], people[order, 2:4]
    scale = np.array([width, height], np.float32)
    corners = np.concatenate([(centre - size / 2) * scale, (centre + size / 2) * scale], axis=1)

    def paint_masks(rows: Int64[Tensor, " k"]) -> Bool[Tensor, "k h w"]:
        queries = order[rows.numpy()].tolist()
        # one by one: an index tensor would have to be uploaded
        kept = [mask_logits[query] for query in queries]
        return paint(torch.stack(kept) if kept else mask_logits[:0], height, width)

    return Candidates(
        bbox_xyxy=torch.from_numpy(corners), scores=torch.from_numpy(scores[order]), paint_masks=paint_masks
    )


def paint(mask_logits: Float[Tensor, "k s s"], height: int, width: int) -> Bool[Tensor, "k h w"]:
    """Masks of full frames; beside them at most `PAINTED_PIXELS` of logits at once, or one mask's."""
    masks = torch.empty((len(mask_logits), height, width), dtype=torch.bool, device=mask_logits.device)
    at_once = max(PAINTED_PIXELS // (height * width), 1)
    for start in range(0, len(masks), at_once):
        part = mask_logits[None, start : start + at_once].float()
        full = F.interpolate(part, (height, width), mode="bilinear", align_corners=False)
        torch.gt(full[0], 0, out=masks[start : start + at_once])
    return masks


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
    network = network.to(options.device).eval()
    return RfDetrSegDetector(
        in_bf16(network) if options.precision == "bf16" else network,
        image_size=int(network.config.backbone_config.image_size),
        score_floor=options.score_floor,
        weights={folder.name: folder / "model.safetensors"},
    )

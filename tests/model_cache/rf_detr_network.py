"""A tiny RF-DETR-Seg with random weights, and one whose boxes follow the picture."""

import torch
from torch import nn
from transformers import RfDetrConfig, RfDetrForInstanceSegmentation

SIDE = 96  # pixels of its square input


def tiny_config(num_queries: int = 20) -> RfDetrConfig:
    """RF-DETR-Seg with 208 thousand parameters."""
    return RfDetrConfig(
        backbone_config={
            "model_type": "rf_detr_dinov2",
            "hidden_size": 48,
            "num_hidden_layers": 4,
            "num_attention_heads": 3,
            "image_size": SIDE,
            "patch_size": 12,
            "num_windows": 2,
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
        },
        d_model=32,
        decoder_layers=2,
        decoder_self_attention_heads=4,
        decoder_cross_attention_heads=4,
        decoder_n_points=2,
        decoder_ffn_dim=64,
        num_queries=num_queries,
        num_labels=91,
        group_detr=1,
    )


def tiny_rf_detr() -> nn.Module:
    """As many queries as patches, all alike but for their proposals, so that their order changes no box."""
    torch.manual_seed(3)
    network = RfDetrForInstanceSegmentation(tiny_config(num_queries=64)).eval().requires_grad_(False)
    model = network.model.model
    model.query_feat.weight[:] = model.query_feat.weight[:1]
    model.reference_point_embed.weight[:] = torch.tensor([0.0, 0, 1, 1])
    for head in (network.model.bbox_embed, model.enc_out_bbox_embed[0]):
        for layer in head.layers:
            nn.init.normal_(layer.weight, std=0.05)
    return network

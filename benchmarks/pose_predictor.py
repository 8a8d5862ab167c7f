"""The pose predictor at LART's size against its plainest form: every slot attended to and decoded.

Run as `python -m benchmarks.pose_predictor`.
"""

import torch
from torch import Tensor

from benchmarks.timing import best_ms, print_head, print_row
from model_cache.networks.pose_transformer import (
    BLOCKED_LOGIT,
    NUM_POSE_ENTRIES,
    PoseTransformer,
    PoseTransformerConfig,
)

LART = PoseTransformerConfig(
    dim=256,
    frame_length=125,
    depth=16,
    heads=16,
    dim_head=64,
    mlp_dim=512,
    mid_dim=229,
    regressor_dim=1024,
    conv_pad=1,
    conv_stride=5,
)
HISTORY = 7


@torch.inference_mode()
def ours(network: PoseTransformer, poses: Tensor) -> Tensor:
    """The pose of the slot after the history."""
    num = len(poses)
    slots = torch.arange(HISTORY, device=poses.device).expand(num, -1)
    repeated = torch.zeros_like(slots, dtype=torch.bool)
    asked = torch.full((num, 1), HISTORY, device=poses.device)
    return network.read_out(network.tokens(poses, slots, repeated, asked)[:, 0])


@torch.inference_mode()
def plain(network: PoseTransformer, poses: Tensor) -> Tensor:
    """The same, as the official code does it: 125 keys, 125 slots decoded, one taken."""
    empty = torch.ones(len(poses), network.frame_length, dtype=torch.bool, device=poses.device)
    empty[:, :HISTORY] = False
    embedded = network.pose_encoder(network._normalised(poses))
    x = network.mask_token.expand(len(poses), network.frame_length, -1).clone()
    x[:, :HISTORY] = embedded
    x = x + network.position1
    for layer in network.layers:
        normed = layer.attention_norm(x)
        qkv = layer.attention.to_qkv(normed).reshape(*x.shape[:2], 3, layer.attention.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        logits = query @ key.transpose(-1, -2) * layer.attention.scale
        logits = logits.masked_fill(empty[:, None, None], BLOCKED_LOGIT)
        x = x + layer.attention.out((logits.softmax(-1) @ value).transpose(1, 2).flatten(2))
        x = x + layer.fc2(torch.nn.functional.gelu(layer.fc1(layer.mlp_norm(x))))
    x = network.grow(network.shrink(x.transpose(1, 2))).transpose(1, 2) + network.position2
    tokens = network.last_layer(x)
    decoded = network.read_out(tokens.flatten(0, 1)).reshape(len(poses), network.frame_length, -1)
    return decoded[:, HISTORY]


def main() -> None:
    """Print milliseconds per batch and the ratio."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    network = PoseTransformer(LART).eval().requires_grad_(False).to(device)
    print_head(f"pose predictor at LART's size on {device} ({torch.get_num_threads()} threads)")
    for num in (1, 5, 20):
        poses = torch.randn(num, HISTORY, NUM_POSE_ENTRIES, device=device)
        torch.testing.assert_close(ours(network, poses), plain(network, poses), atol=1e-4, rtol=1e-4)
        simplest = best_ms(lambda batch=poses: plain(network, batch), repeats=5, device=device)
        quick = best_ms(lambda batch=poses: ours(network, batch), repeats=5, device=device)
        print_row(f"{num} tracks", simplest, quick)


if __name__ == "__main__":
    main()

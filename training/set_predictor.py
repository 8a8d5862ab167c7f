"""Set the weights of a pose predictor of PHALP's architecture by hand: it says the mean of the last poses.

Minutes of training from chance did worse (LOG.md), since everything must pass
through convolutions over time that begin as noise. Here each part is set to let poses through:

    encoder      229 numbers to the 6D rotations, shape and camera; signs survive the ReLU as pairs
    layer        each slot takes the mean of the measured poses, newer ones weighing more
    convolutions mean over five slots and back
    regressor    first iteration: the token's own pose; the others add nothing

    python -m training.set_predictor build/pose_predictor.pt
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model_cache.networks.pose_transformer import PoseTransformer, PoseTransformerConfig

CONFIG = PoseTransformerConfig(
    dim=160,
    frame_length=125,
    depth=1,
    heads=5,
    dim_head=32,
    mlp_dim=8,
    mid_dim=314,
    regressor_dim=320,
    conv_pad=1,
    conv_stride=5,
)
SIX_D, SHAPE, CAMERA = slice(0, 144), slice(144, 154), slice(154, 157)
CARRIED = 157
CLOCK, ONE = 157, 158  # spare entries of a token: its time, and a constant for queries
LOUDNESS = 0.05  # of a token before attention; the layer norm undoes it, the way around the layer stays quiet
TICK = 0.05  # the clock's step a slot, in units of the constant
RECENCY = 2.0  # how much a newer slot's logit is higher
SHAPE_LOUDNESS = 0.5  # shape must not disturb the layer norm, whose scale is that of the rotations


def main() -> None:
    """Set and save."""
    torch.save(predictor().state_dict(), Path(sys.argv[1]))


@torch.no_grad()
def predictor() -> PoseTransformer:
    """The network with its weights set."""
    network = PoseTransformer(CONFIG)
    for parameter in network.parameters():
        parameter.zero_()
    network.pose_mean.zero_()
    network.pose_std.fill_(1.0)
    set_encoder(network)
    set_attention(network)
    set_convolutions(network)
    set_heads(network)
    return network


def carried_from_pose() -> Tensor:
    """The linear map (157, 229) from a pose vector to 6D rotations, shape and camera."""
    matrix = torch.zeros(CARRIED, 229)
    for joint in range(24):
        for column in range(2):
            for row in range(3):
                matrix[6 * joint + 3 * column + row, 9 * joint + 3 * row + column] = 1
    matrix[SHAPE, 216:226] = SHAPE_LOUDNESS * torch.eye(10)
    matrix[CAMERA, 226:229] = torch.eye(3)
    return matrix


def set_encoder(network: PoseTransformer) -> None:
    """Pose vectors to quiet tokens."""
    first, last = network.pose_encoder[0], network.pose_encoder[2]
    matrix = carried_from_pose()
    first.weight.copy_(torch.cat([matrix, -matrix]))
    last.weight[:CARRIED] = LOUDNESS * torch.cat([torch.eye(CARRIED), -torch.eye(CARRIED)], 1)
    last.bias[ONE] = LOUDNESS
    network.mask_token[ONE] = LOUDNESS
    network.position1[0, :, CLOCK] = LOUDNESS * TICK * torch.arange(CONFIG.frame_length)


def set_attention(network: PoseTransformer) -> None:
    """The layer norm back to plain poses, then a mean over measured slots, newer ones weighing more."""
    layer = network.layers[0]
    mean, deviation = typical_token_statistics()
    for norm in (layer.attention_norm, layer.mlp_norm, network.last_layer.attention_norm,
                 network.last_layer.mlp_norm):  # fmt: skip
        norm.weight.fill_(1.0)
    layer.attention_norm.weight.fill_(deviation)
    layer.attention_norm.bias[:CARRIED] = mean
    layer.attention_norm.bias[CLOCK] = mean
    inner = CONFIG.heads * CONFIG.dim_head
    to_qkv = layer.attention.to_qkv.weight
    # A masked slot's normalised constant; its clock makes it a little smaller in late slots.
    dim = CONFIG.dim
    constant = deviation * (1 - 1 / dim) / np.sqrt((1 / dim) * (1 - 1 / dim))
    gain = RECENCY * np.sqrt(CONFIG.dim_head) / (TICK * constant)
    for head in range(CONFIG.heads):
        to_qkv[head * CONFIG.dim_head, ONE] = 1.0
        to_qkv[inner + head * CONFIG.dim_head, CLOCK] = gain
    to_qkv[2 * inner : 2 * inner + CARRIED, :CARRIED] = torch.eye(CARRIED)
    assert isinstance(layer.attention.out, nn.Linear)
    layer.attention.out.weight.copy_(torch.eye(dim))


def typical_token_statistics() -> tuple[float, float]:
    """Mean and deviation over the entries of a standing person's token, loudness 1."""
    token = torch.zeros(CONFIG.dim)
    token[SIX_D] = torch.tensor([1.0, 0, 0, 0, 1.0, 0]).repeat(24)
    token[SIX_D][:6] = torch.tensor([0.6, 0, 0.2, 0, -0.9, 0])  # the root faces the camera, turned somewhat
    token[ONE] = 1
    return float(token.mean()), float(token.std(correction=0))


def set_convolutions(network: PoseTransformer) -> None:
    """Blocks of five slots to their mean and back."""
    identity = torch.eye(CONFIG.dim)
    for tap in range(CONFIG.conv_pad, CONFIG.conv_pad + CONFIG.conv_stride):
        network.shrink.weight[:, :, tap] = identity / CONFIG.conv_stride
        network.grow.weight[:, :, tap] = identity


def set_heads(network: PoseTransformer) -> None:
    """The token's own pose, shape and camera."""
    regressor, pose = network.regressor, CARRIED - 3
    read = torch.zeros(pose, CONFIG.dim + CARRIED)
    read[:, :pose] = torch.eye(pose)
    read[SHAPE, SHAPE] /= SHAPE_LOUDNESS
    read[:, CONFIG.dim : CONFIG.dim + pose] = -torch.eye(pose)  # what the iterations have already
    regressor.fc1.weight[: 2 * pose] = torch.cat([read, -read])
    regressor.fc2.weight.copy_(torch.eye(CONFIG.regressor_dim))
    pair = torch.cat([torch.eye(pose), -torch.eye(pose)], 1)
    regressor.decpose.weight[:, : 2 * pose] = pair[:144]
    regressor.decshape.weight[:, : 2 * pose] = pair[144:]
    location = torch.zeros(3, CONFIG.dim)
    location[:, CAMERA] = torch.eye(3)
    head = network.location_head
    head[0].weight[:6] = torch.cat([location, -location])
    head[2].weight.copy_(torch.eye(CONFIG.dim))
    head[4].weight[:, :6] = torch.cat([torch.eye(3), -torch.eye(3)], 1)


if __name__ == "__main__":
    main()

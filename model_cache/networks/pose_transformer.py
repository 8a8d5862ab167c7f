"""The network behind PHALP's pose prediction (LART's transformer over one person's time slots).

Rajasegaran et al., On the Benefits of 3D Pose and Tracking for
Human Action Recognition, CVPR 2023.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from model_cache.errors import WeightsInvalid
from model_cache.networks.smpl import rotation_from_6d

NUM_POSE_ENTRIES = 229  # rotations 9 + 207, betas 10, camera 3
NUM_MEASURED_ENTRIES = 226  # those with a mean and a deviation
SIX_D_ENTRIES = 144  # 24 rotations
REGRESSOR_ITERATIONS = 3
BLOCKED_LOGIT = -1e3  # LART's stand-in for minus infinity; if every key is blocked, all weigh the same

# Official names (LART, without the leading `encoder.`) and ours, replaced in this order.
_NAMES = (
    (r"^pos_embedding_learned([12])$", r"position\1"),
    (r"^pose_shape_encoder\.", "pose_encoder."),
    (r"^transformer1\.layers\.", "layers."),
    (r"^transformer2\.layers\.0\.", "last_layer."),
    (r"\.0\.norm\.", ".attention_norm."),
    (r"^(layers\.\d+|last_layer)\.0\.fn\.to_qkv\.", r"\1.attention.to_qkv."),
    (r"^(layers\.\d+|last_layer)\.0\.fn\.to_out\.0\.", r"\1.attention.out."),
    (r"\.1\.norm\.", ".mlp_norm."),
    (r"\.1\.fn\.net\.0\.", ".fc1."),
    (r"\.1\.fn\.net\.3\.", ".fc2."),
    (r"^conv_en\.", "shrink."),
    (r"^conv_de\.", "grow."),
    (r"^smpl_head\.0\.", "regressor."),
    (r"^loca_head\.0\.", "location_head."),
)
# Parts of the official model that prediction does not use.
_UNUSED = r"transformer\.|pos_embedding$|pe$|class_token$|action_head|smpl_head\.[1-9]|loca_head\.[1-9]"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseTransformerConfig:
    """Sizes of the network."""

    dim: int  # width of a token
    frame_length: int  # time slots
    depth: int  # layers before the convolutions; one more follows them
    heads: int
    dim_head: int
    mlp_dim: int
    mid_dim: int  # hidden width of the pose encoder
    regressor_dim: int  # hidden width of the regressor
    conv_pad: int  # of the convolutions over time; their kernel is `conv_stride + 2 * conv_pad`
    conv_stride: int

    def __post_init__(self) -> None:
        if self.frame_length % self.conv_stride:
            raise ValueError(f"{self.frame_length} slots are not a multiple of the stride {self.conv_stride}")


class _Attention(nn.Module):
    def __init__(self, config: PoseTransformerConfig) -> None:
        super().__init__()
        inner = config.heads * config.dim_head
        self.heads = config.heads
        self.scale = config.dim_head**-0.5
        self.to_qkv = nn.Linear(config.dim, 3 * inner, bias=False)
        is_plain = config.heads == 1 and config.dim_head == config.dim
        self.out = nn.Identity() if is_plain else nn.Linear(inner, config.dim)

    def forward(
        self, x: Float[Tensor, "b q d"], keys: Float[Tensor, "b k d"], blocked: Bool[Tensor, "b k"] | None
    ) -> Float[Tensor, "b q d"]:
        inner = self.to_qkv.out_features // 3
        query = functional.linear(x, self.to_qkv.weight[:inner])
        query = query.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)  # (b, heads, q, dim_head)
        key_value = functional.linear(keys, self.to_qkv.weight[inner:])
        key_value = key_value.reshape(*keys.shape[:2], 2, self.heads, -1)
        key, value = key_value.permute(2, 0, 3, 1, 4)  # (b, heads, k, dim_head) each
        logits = query @ key.transpose(-1, -2) * self.scale
        if blocked is not None:
            logits = logits.masked_fill(blocked[:, None, None], BLOCKED_LOGIT)
        mixed = logits.softmax(dim=-1) @ value
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class _Layer(nn.Module):
    """Pre-norm attention and MLP. Queries and keys may be different rows of the same tokens."""

    def __init__(self, config: PoseTransformerConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.dim)
        self.attention = _Attention(config)
        self.mlp_norm = nn.LayerNorm(config.dim)
        self.fc1 = nn.Linear(config.dim, config.mlp_dim)
        self.fc2 = nn.Linear(config.mlp_dim, config.dim)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        *,
        key_slots: Int64[Tensor, "b k"] | None = None,
        query_slots: Int64[Tensor, "b q"] | None = None,
        blocked: Bool[Tensor, "b k"] | None = None,
    ) -> Float[Tensor, "b q d"]:
        normed = self.attention_norm(x)
        keys = normed if key_slots is None else _take(normed, key_slots)
        if query_slots is not None:
            x, normed = _take(x, query_slots), _take(normed, query_slots)
        x = x + self.attention(normed, keys, blocked)
        out: Tensor = x + self.fc2(functional.gelu(self.fc1(self.mlp_norm(x))))
        return out


class _Regressor(nn.Module):
    """HMR's iterative regressor: a token and the current estimate (its camera too) give the next one."""

    init_body_pose: Tensor
    init_betas: Tensor
    init_cam: Tensor

    def __init__(self, config: PoseTransformerConfig) -> None:
        super().__init__()
        width = config.regressor_dim
        self.fc1 = nn.Linear(config.dim + SIX_D_ENTRIES + 10 + 3, width)
        self.fc2 = nn.Linear(width, width)
        self.decpose = nn.Linear(width, SIX_D_ENTRIES)
        self.decshape = nn.Linear(width, 10)
        self.deccam = nn.Linear(width, 3)
        self.register_buffer("init_body_pose", torch.zeros(1, SIX_D_ENTRIES))
        self.register_buffer("init_betas", torch.zeros(1, 10))
        self.register_buffer("init_cam", torch.zeros(1, 3))

    def forward(self, token: Float[Tensor, "b d"]) -> tuple[Float[Tensor, "b 216"], Float[Tensor, "b 10"]]:
        initial = (self.init_body_pose, self.init_betas, self.init_cam)
        pose, betas, camera = (row.expand(len(token), -1) for row in initial)
        for _ in range(REGRESSOR_ITERATIONS):
            x = functional.relu(self.fc1(torch.cat([token, pose, betas, camera], dim=1)))
            x = functional.relu(self.fc2(x))
            pose, betas, camera = pose + self.decpose(x), betas + self.decshape(x), camera + self.deccam(x)
        return rotation_from_6d(pose.reshape(-1, 24, 6)).flatten(1), betas


class PoseTransformer(nn.Module):
    """Poses at some time slots in, poses at any time slots out. Float32.

    Slots without a pose hold a learned mask token and are not attended to, so keys and values are computed
    for the slots with a pose alone; that is exact.
    """

    pose_mean: Tensor
    pose_std: Tensor

    def __init__(self, config: PoseTransformerConfig) -> None:
        super().__init__()
        dim, kernel = config.dim, config.conv_stride + 2 * config.conv_pad
        self.frame_length = config.frame_length
        self.register_buffer("pose_mean", torch.zeros(NUM_MEASURED_ENTRIES))
        self.register_buffer("pose_std", torch.ones(NUM_MEASURED_ENTRIES))
        self.pose_encoder = nn.Sequential(
            nn.Linear(NUM_POSE_ENTRIES, config.mid_dim), nn.ReLU(), nn.Linear(config.mid_dim, dim)
        )
        self.mask_token = nn.Parameter(torch.zeros(dim))
        self.position1 = nn.Parameter(torch.zeros(1, config.frame_length, dim))
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.depth))
        self.shrink = nn.Conv1d(dim, dim, kernel, config.conv_stride, config.conv_pad)
        self.grow = nn.ConvTranspose1d(dim, dim, kernel, config.conv_stride, config.conv_pad)
        self.position2 = nn.Parameter(torch.zeros(1, config.frame_length, dim))
        self.last_layer = _Layer(config)
        self.regressor = _Regressor(config)
        self.location_head = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 3)
        )

    def tokens(
        self,
        poses: Float[Tensor, "b k 229"],
        slots: Int64[Tensor, "b k"],
        repeated: Bool[Tensor, "b k"],
        query_slots: Int64[Tensor, "b q"],
    ) -> Float[Tensor, "b q d"]:
        """What the network makes of the asked slots.

        Args:
            poses: pose vectors, camera with z / 200.
            slots: time slot of each pose.
            repeated: poses that repeat another entry of the same slot, with the same numbers; they fill the
                batch and are not attended to.
            query_slots: which slots to give back.
        """
        x = self.mask_token.expand(len(slots), self.frame_length, -1)
        embedded = self.pose_encoder(self._normalised(poses))
        x = x.scatter(1, slots[..., None].expand_as(embedded), embedded) + self.position1
        for layer in self.layers:
            x = layer(x, key_slots=slots, blocked=repeated)
        x = self.grow(self.shrink(x.transpose(1, 2))).transpose(1, 2) + self.position2
        out: Tensor = self.last_layer(x, query_slots=query_slots)
        return out

    def read_out(self, tokens: Float[Tensor, "n d"]) -> Float[Tensor, "n 229"]:
        """Pose vectors out of tokens, in plain units (not normalised)."""
        rotations, betas = self.regressor(tokens)
        return torch.cat([rotations, betas, self.location_head(tokens)], dim=1)

    def _normalised(self, poses: Float[Tensor, "b k 229"]) -> Float[Tensor, "b k 229"]:
        measured, camera = poses[..., :NUM_MEASURED_ENTRIES], poses[..., NUM_MEASURED_ENTRIES:]
        return torch.cat([(measured - self.pose_mean) / (self.pose_std + 1e-10), camera], dim=-1)


def _take(x: Float[Tensor, "b t d"], slots: Int64[Tensor, "b q"]) -> Float[Tensor, "b q d"]:
    return x.gather(1, slots[..., None].expand(-1, -1, x.shape[-1]))


def pose_transformer(
    state: Mapping[str, Tensor], *, heads: int, conv_pad: int, conv_stride: int
) -> PoseTransformer:
    """The network with the given weights and the three sizes that no shape of them tells.

    `state` holds tensors under their official names without the leading `encoder.`, and `pose_mean` and
    `pose_std`, the rows of mean_std.npy, with or without the camera, which is not normalised.

    Raises:
        WeightsInvalid: a tensor is missing, unknown or misshapen.
    """
    renamed = {_our_name(key): tensor for key, tensor in state.items() if not re.match(_UNUSED, key)}
    statistics = {key: renamed[key] for key in ("pose_mean", "pose_std") if key in renamed}
    renamed |= {key: row.reshape(-1)[:NUM_MEASURED_ENTRIES] for key, row in statistics.items()}
    try:
        inner = renamed["layers.0.attention.to_qkv.weight"].shape[0] // 3
        config = PoseTransformerConfig(
            dim=renamed["mask_token"].shape[-1],
            frame_length=renamed["position1"].shape[1],
            depth=len({key.split(".")[1] for key in renamed if key.startswith("layers.")}),
            heads=heads,
            dim_head=inner // heads,
            mlp_dim=renamed["layers.0.fc1.weight"].shape[0],
            mid_dim=renamed["pose_encoder.0.weight"].shape[0],
            regressor_dim=renamed["regressor.fc1.weight"].shape[0],
            conv_pad=conv_pad,
            conv_stride=conv_stride,
        )
        with torch.device("meta"):  # no memory until the given tensors take the places
            network = PoseTransformer(config)
        network.load_state_dict(renamed, assign=True)
    except KeyError as exc:
        raise WeightsInvalid(f"pose predictor: the tensor for {exc} is missing") from exc
    except (ValueError, RuntimeError) as exc:
        raise WeightsInvalid(f"pose predictor: {exc}") from exc
    return network


def _our_name(official: str) -> str:
    for pattern, name in _NAMES:
        official = re.sub(pattern, name, official)
    return official

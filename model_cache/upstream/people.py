"""One person as the official code carries it from its features to its tracker."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from numpy import ndarray

from model_cache.interfaces import Texture


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialPerson:
    """The handle that perception gives out as a person's texture; holds about 1.3 MB.

    Attributes:
        detection: PHALP's `Detection`.
    """

    detection: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialTexture:
    """A track's mixed texture map, where our own tracker runs on the official networks.

    Attributes:
        uv: three colours and a mask of -1 and 1.
    """

    uv: Float[ndarray, "4 256 256"]


def detection_of(texture: Texture) -> Any:
    """PHALP's `Detection` behind a handle.

    Raises:
        TypeError: the handle is of another engine.
    """
    if not isinstance(texture, OfficialPerson):
        raise TypeError(f"not a person of this engine: {type(texture).__name__}")
    return texture.detection


def uv_of(texture: Texture) -> Float[ndarray, "4 256 256"]:
    """The texture map behind either handle."""
    if isinstance(texture, OfficialTexture):
        return texture.uv
    uv: ndarray = detection_of(texture).detection_data["uv"]
    return uv

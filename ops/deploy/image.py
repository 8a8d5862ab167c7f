"""Which image references may be deployed. Knows nothing of registries."""

import re

from ops.deploy.errors import DeployError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HOST = r"[a-z0-9][a-z0-9.-]*(?::\d+)?/"
_PART = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_NAME = re.compile(rf"(?:{_HOST})?{_PART}(?:/{_PART})*")


def check_image(image: str) -> str:
    """The reference as it is, if it names one build: a digest, or a tag other than `latest`.

    A rolling release keeps serving the image a host has cached under the same name, so two workers of one
    endpoint could run different code.

    Raises:
        DeployError: it does not.
    """
    reference, _, digest = image.partition("@")
    before, _, last = reference.rpartition("/")
    name, _, tag = last.partition(":")
    if not _NAME.fullmatch(f"{before}/{name}" if before else name):
        raise DeployError(f"image {image!r} is not an image reference")
    if digest:
        if not _DIGEST.fullmatch(digest):
            raise DeployError(f"image {image!r} has a digest that is not sha256:<64 hex digits>")
        return image
    if not tag:
        raise DeployError(f"image {image!r} has no tag; name one build: {name}:0.1.0 or a digest")
    if not _TAG.fullmatch(tag):
        raise DeployError(f"image {image!r} has a tag that no registry accepts")
    if tag.lower() == "latest":
        raise DeployError(
            f"image {image!r}: `latest` is no build; hosts may serve a cached one. Use a version"
        )
    return image

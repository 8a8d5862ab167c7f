"""What an unreadable file seems to be, from its first bytes. Knows nothing of what it should be."""

from pathlib import Path


def describe_content(path: Path) -> str:
    """Why a file that could not be read may be what it is, as far as its first bytes tell."""
    head = path.read_bytes()[:256] if path.stat().st_size < 1024 else _head(path)
    if not head:
        return "the file is empty; download it again"
    if head.lstrip()[:1] == b"<":
        return "this is a web page, not the file: the link led to a login or an error page"
    if head.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer, not the file: run `git lfs pull` or download the file itself"
    return "the file cannot be read; it may be cut short or of another kind, so download it again"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(256)

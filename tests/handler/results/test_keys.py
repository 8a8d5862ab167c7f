"""Object keys stay under their prefix, whatever a caller writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.errors import InputError
from handler.results.bucket import key_prefix, safe_job_id


@pytest.mark.parametrize(
    ("root", "prefix", "expected"),
    [
        ("", "", "job-1/"),
        ("", "a/b", "a/b/job-1/"),
        ("root/", "a//b/./c/", "root/a/b/c/job-1/"),
        ("tenant", "übung", "tenant/übung/job-1/"),
    ],
)
def test_prefix_is_normalised(root, prefix, expected):
    """Empty and dot segments vanish, the job's id comes last."""
    assert key_prefix(root, prefix, "job-1") == expected


@pytest.mark.parametrize(
    "prefix",
    ["/a", "../a", "a/../../b", "a/..", "a\\b", "a\nb", "a\x00", "a\x7f", "a\x9f", "\ud800", "x" * 513],
)
def test_unsafe_prefix_is_refused(prefix):
    """Absolute, climbing, control characters, too long: a coded error."""
    with pytest.raises(InputError) as refused:
        key_prefix("", prefix, "job-1")
    assert refused.value.code == "INPUT_INVALID"


@given(prefix=st.text(max_size=40), job_id=st.text(max_size=300))
def test_key_never_leaves_its_root(prefix, job_id):
    """Any text either is refused or gives a plain path below the root."""
    try:
        key = key_prefix("root", prefix, job_id)
    except InputError:
        return
    segments = key.split("/")
    assert segments[0] == "root"
    assert segments[-1] == ""
    assert all(segment not in ("", ".", "..") for segment in segments[:-1])
    assert "\\" not in key


@given(first=st.text(max_size=200), second=st.text(max_size=200))
def test_job_ids_never_meet(first, second):
    """Two different ids have two different folders, with harmless names."""
    one, other = safe_job_id(first), safe_job_id(second)

    assert (one == other) == (first == second)
    assert one.strip(".")
    assert "/" not in one


def test_usual_job_id_is_kept():
    """An id as the platform gives it is readable in the key."""
    assert safe_job_id("c80ffee4-f315-4e25-a146-0f3d98cf024b-u1") == "c80ffee4-f315-4e25-a146-0f3d98cf024b-u1"

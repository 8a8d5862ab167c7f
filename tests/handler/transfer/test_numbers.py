"""What counts as a number in what strangers send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.transfer.numbers import whole_number


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("9" * 20, 10**20 - 1)])
def test_ascii_digits_are_a_number(text: str, number: int) -> None:
    """Up to as many as a length can have."""
    assert whole_number(text) == number


@pytest.mark.parametrize(
    "text", [None, "", "²", "٣", "-1", "+1", " 1", "1_0", "1\n", "1.0", "0x1", "9" * 5000]
)
def test_anything_else_is_none(text: str | None) -> None:
    """Also what `str.isdigit` or `int` alone would take."""
    assert whole_number(text) is None


@given(st.text(max_size=25))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Never an exception, never another number than is written."""
    number = whole_number(text)
    assert number is None or str(number) == (text.lstrip("0") or "0")

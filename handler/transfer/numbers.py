"""Numbers in what strangers send: headers, queries."""

import re

# No more digits than the largest length that HTTP libraries take; `int` itself refuses thousands of them.
_DIGITS = re.compile(r"[0-9]{1,20}")


def whole_number(text: str | None) -> int | None:
    """The number that ASCII digits write, or None for anything else.

    `str.isdigit` is true for characters that `int` does not read, and `int` reads more than HTTP writes:
    signs, spaces, underscores, the digits of other scripts.
    """
    return int(text) if text is not None and _DIGITS.fullmatch(text) else None

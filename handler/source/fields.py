"""Interlaced pictures, which hold two moments in alternate lines, become pictures of one. Knows no files."""

import av
import numpy as np


def settle_fields(picture: av.VideoFrame) -> None:
    """Take out of the lower field what has moved since the upper one, in place: no combs.

    Each of its lines is limited to what lies between its two neighbours (the median of the three). So what
    stands still keeps its full height, and a picture that is only marked as interlaced loses no more than
    details of a single line. No other frame is looked at: the result does not depend on where decoding began.
    """
    picture.make_writable()  # the decoder may still predict from these pixels
    order = ">" if picture.format.is_big_endian else "<"
    sample = f"{order}u2" if picture.format.components[0].bits > 8 else "u1"
    for plane in picture.planes:  # in 4:2:0, too, the lines of each plane belong to the fields in turn
        rows = np.frombuffer(memoryview(plane), sample).reshape(plane.height, -1)
        lower = rows[1::2]
        above = rows[0::2][: len(lower)]
        below = np.concatenate([rows[2::2], above[-1:]])[: len(lower)]
        np.clip(lower, np.minimum(above, below), np.maximum(above, below), out=lower)

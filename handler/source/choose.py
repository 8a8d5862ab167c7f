"""Which of a file's picture streams is used: the one that players show. Knows nothing of decoding."""

from collections import Counter
from collections.abc import Collection, Sequence

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

NOT_MOVING = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
ENOUGH_PACKETS = 250  # of one stream: by then one with a frame every few seconds has shown its second


def marked_moving(container: InputContainer) -> list[VideoStream]:
    """The video streams that are not marked as cover art, still image or thumbnail."""
    return [stream for stream in container.streams.video if not stream.disposition & NOT_MOVING]


def without_stills(streams: Sequence[VideoStream], again: InputContainer) -> list[VideoStream]:
    """The streams without those of one picture, such as a cover stored as a stream like any other.

    Args:
        streams: to choose from.
        again: their file, just opened; its first packets are read.
    """
    num_packets: Counter[int] = Counter()
    try:
        for packet in again.demux([again.streams[stream.index] for stream in streams]):
            num_packets[packet.stream_index] += packet.size > 0
            if num_packets[packet.stream_index] == ENOUGH_PACKETS:
                break
    except av.FFmpegError:
        pass  # damage; decoding will say so
    return [stream for stream in streams if num_packets[stream.index] > 1] or list(streams)


def as_players_do(
    streams: Sequence[VideoStream], container: InputContainer, codecs: Collection[str]
) -> list[VideoStream]:
    """The best stream first: one that can be read, marked as default, and FFmpeg's own choice.

    Args:
        streams: to choose from.
        container: theirs.
        codecs: names of the decoders that may be used.
    """
    best = container.streams.best("video")

    def rank(stream: VideoStream) -> tuple[bool, bool, bool]:
        context = stream.codec_context
        is_readable = context is not None and context.codec.name in codecs
        is_default = bool(stream.disposition & Disposition.default)
        return not is_readable, not is_default, stream is not best

    return sorted(streams, key=rank)

"""Turns a file's packets into decoded pictures; damage is counted and costs no more than it must.

Each packet's number travels through the decoder in place of its timestamp. So every picture is known by its
packet, and of every packet it is known whether it became a picture.
"""

import heapq
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import av
from av.video.stream import VideoStream

from handler.context import Check, unstoppable
from handler.errors import ErrorCode, SourceError
from handler.records import VideoFacts
from handler.settings import IntakeSettings
from handler.source.container import open_video

THREADS = 0  # of the decoder; 0 = one per core
MAX_THREADS = 16  # that FFmpeg takes by itself
SEVERAL_AT_ONCE = 1 << 12 | 1 << 15  # FFmpeg's flags of decoders that work on several frames at once
MAX_DELAY = 1024  # packets; no decoder holds back more
PROOF_PACKETS = 120  # of a file whose timestamps may be decoding times, examined before they are believed


@dataclass(slots=True)
class ReadTally:
    """What was found while reading; packets go by their numbers."""

    damaged: set[int] = field(default_factory=set)  # packets that could not be decoded
    hidden: set[int] = field(default_factory=set)  # packets that an edit list hides
    num_behind: int = 0  # packets read that are stored behind that of the last picture
    is_last_partial: bool = False  # the last packet read was incomplete
    at_end: bool = False  # all packets were read; the decoder is being flushed
    gave_up: bool = False  # a decoder with several threads met damage while it was flushed
    broke_off: bool = False  # reading stopped at damage before the end of the file


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPoint:
    """A key frame to begin at."""

    packet_index: int  # packets of the stream before it
    source_index: int  # frames shown before it
    pts: int  # its time, ticks


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstLook:
    """The first picture shown, and what the beginning says about the timestamps."""

    picture: av.VideoFrame
    in_decode_order: bool  # they are decoding times, although pictures are shown in another order


def read_pictures(
    facts: VideoFacts,
    settings: IntakeSettings,
    check: Check,
    tally: ReadTally,
    start: StartPoint | None = None,
) -> Generator[tuple[int, av.VideoFrame]]:
    """(Source index, picture as stored) in the order in which they are shown. Closes the file at its end.

    If `start` turns out wrong, the whole file is read. Timestamps that are decoding times are handed out in
    ascending order. `check` is called for every packet, `tally` is filled in.

    Memory: the decoder's own frames, about one per core.

    Raises:
        InputError, SourceError: as `open_video`.
    """
    reader = _Reader(facts.path, settings, check, tally)
    source_index = 0
    with closing(reader.pictures(start.packet_index if start else 0, facts.in_decode_order)) as pictures:
        if start is not None:
            # Pictures shown before the key frame depend on an earlier one, which was skipped.
            key = next((one for one in pictures if one.pts is None or one.pts >= start.pts), None)
            if key is None or key.pts != start.pts:
                pictures.close()
                yield from read_pictures(facts, settings, check, tally)
                return
            yield start.source_index, key
            del key
            source_index = start.source_index + 1
        for picture in pictures:
            yield source_index, picture
            del picture  # not held while the next one is decoded
            source_index += 1


def first_look(path: Path, settings: IntakeSettings, check: Check = unstoppable) -> FirstLook:
    """Decode the first picture, and as many more as it takes to know what the timestamps mean.

    AVI has no presentation times, and an MP4 copied from such a file has wrong ones: they grow from packet to
    packet like decoding times, while the decoder shows the pictures in another order. Where much is damaged,
    the first picture may be far into the file. `check` is called for every packet.

    Raises:
        SourceError: VIDEO_HAS_NO_FRAMES; and as `open_video`.
    """
    first: av.VideoFrame | None = None
    for threads in (THREADS, 1):  # several may give up a whole file of a few frames, see `_Reader.pictures`
        reader, trail = _Reader(path, settings, check, ReadTally()), _Trail()
        with closing(reader.decoded(trail, threads=threads)) as pictures:
            for number, picture in pictures:
                is_reordered = number < trail.highest
                trail.show(number, picture)
                first = first or picture
                is_sound = not (picture.is_corrupt or reader.tally.damaged)
                is_open = is_sound and trail.may_be_in_decode_order()
                if is_reordered or not is_open:
                    return FirstLook(picture=first, in_decode_order=is_open)
        if first is not None:
            return FirstLook(picture=first, in_decode_order=False)
    raise SourceError(ErrorCode.VIDEO_HAS_NO_FRAMES, "no frame of the video can be decoded")


@dataclass(frozen=True, slots=True)
class _Reader:
    """Passes over one file."""

    path: Path
    settings: IntakeSettings
    check: Check
    tally: ReadTally

    def pictures(self, first: int, in_decode_order: bool) -> Generator[av.VideoFrame]:
        """Every picture that one decoding thread would give, from packet `first` on.

        A decoder with several threads that meets damage while it is flushed gives up what it still holds.
        Then the end is decoded again by one thread, from the last key frame that came out whole.
        """
        trail = _Trail(in_decode_order=in_decode_order, last_key=first)
        with closing(self.decoded(trail, first=first)) as pictures:
            for number, picture in pictures:
                yield trail.show(number, picture)
                del picture
        if not (self.tally.gave_up or trail.has_lost()):
            return
        last = trail.last
        for again in sorted({trail.last_key, first}, reverse=True):
            is_new = last is None
            self.tally.damaged = {number for number in self.tally.damaged if number < again}
            with closing(self.decoded(first=again, threads=1)) as pictures:
                for number, picture in pictures:
                    if is_new:
                        yield trail.show(number, picture)
                    is_new = is_new or number == last
                    del picture
            if is_new:
                return

    def decoded(
        self, trail: "_Trail | None" = None, *, first: int = 0, threads: int | None = None
    ) -> Generator[tuple[int, av.VideoFrame]]:
        """(Packet number, picture) as the decoder hands them out; `trail` sees every packet first."""
        tally = self.tally
        with open_video(self.path, self.settings) as (container, stream):
            stream.codec_context.thread_count = THREADS if threads is None else threads
            packets = container.demux(stream)
            number = -1
            while True:
                self.check()
                try:
                    packet = next(packets, None)
                except av.FFmpegError:
                    tally.broke_off = True
                    packet = None
                if packet is not None:
                    if packet.size == 0:
                        continue  # a frame that repeats the last one, or PyAV's mark of the end
                    number += 1
                    if packet.is_discard:
                        tally.hidden.add(number)
                    if number < first:
                        continue
                    if trail is not None:
                        trail.send(number, packet, stream)
                    # A transport stream does not say how long its packets are.
                    tally.is_last_partial = packet.is_corrupt or container.format.name == "mpegts"
                    packet.pts = number
                tally.at_end = packet is None
                try:
                    pictures = stream.decode(packet)
                except av.FFmpegError:
                    pictures = []
                    num_ahead = _num_at_once(stream) - 1  # packets sent behind the one that failed
                    if packet is None and num_ahead > 0:
                        tally.gave_up = True
                    else:
                        tally.damaged.add(number - num_ahead)
                for picture in pictures:
                    origin = number if picture.pts is None else picture.pts
                    tally.num_behind = number - origin
                    yield origin, picture
                    del picture
                if packet is None:
                    return


def _num_at_once(stream: VideoStream) -> int:
    """How many packets a decoder works on at once."""
    context = stream.codec_context
    return (context.thread_count or MAX_THREADS) if context.codec.capabilities & SEVERAL_AT_ONCE else 1


@dataclass(slots=True)
class _Trail:
    """What was sent to a decoder and what came back."""

    in_decode_order: bool = False  # hand the timestamps out in ascending order
    last_key: int = 0  # packet of the last key frame that came out whole
    last: int | None = None  # packet of the last picture
    highest: int = -1  # the latest packet that became a picture
    _num_sent: int = 0
    _num_threads: int = 1
    _latest_pts: int | None = None
    _grows: bool = True  # the timestamps, from packet to packet
    _has_dts: bool = False
    _reorders: bool = True  # the decoder, as far as it knows
    _times: dict[int, int | None] = field(default_factory=dict)  # by packet; the latest ones only
    _pending: set[int] = field(default_factory=set)  # packets that have not become pictures
    _waiting: list[int] = field(default_factory=list)  # heap of times not handed out; if in_decode_order

    def send(self, number: int, packet: "av.Packet[VideoStream]", stream: VideoStream) -> None:
        """A packet goes into the decoder."""
        if packet.pts is not None:
            self._grows = self._grows and (self._latest_pts is None or packet.pts > self._latest_pts)
            self._latest_pts = packet.pts
        if not self._times:
            self._has_dts = packet.dts is not None  # MKV's are made up, and missing at first
        time = packet.dts if self.in_decode_order and self._has_dts else packet.pts
        self._num_sent = number + 1
        # As they are since the packet before; the decoder is not open before the first.
        self._num_threads = _num_at_once(stream)
        self._reorders = number == 0 or stream.codec_context.reorder_depth > 0
        self._times[number] = time
        if not packet.is_discard:  # hidden by an edit list: it never comes out
            self._pending.add(number)
            if self.in_decode_order and time is not None:
                heapq.heappush(self._waiting, time)
        if len(self._times) > MAX_DELAY:
            oldest = next(iter(self._times))
            del self._times[oldest]
            self._pending.discard(oldest)

    def show(self, number: int, picture: av.VideoFrame) -> av.VideoFrame:
        """A picture comes out of the decoder: give it its timestamp."""
        time = self._times.get(number)
        if self.in_decode_order:
            if picture.key_frame and number > self.highest and time is not None:
                while self._waiting and self._waiting[0] < time:
                    heapq.heappop(self._waiting)  # what lies before this key frame never came out
            time = heapq.heappop(self._waiting) if self._waiting else None
        picture.pts = time
        self._pending.discard(number)
        self.last, self.highest = number, max(self.highest, number)
        if picture.key_frame and not picture.is_corrupt:
            self.last_key = number
        return picture

    def may_be_in_decode_order(self) -> bool:
        """Whether the timestamps so far may be decoding times, and more packets are needed to tell."""
        return self._grows and self._reorders and self._num_sent < PROOF_PACKETS

    def has_lost(self) -> bool:
        """Whether a packet that was still in the decoder when the file ended gave no picture."""
        first = max(0, self._num_sent - self._num_threads + 1)
        return any(number in self._pending for number in range(first, self._num_sent))

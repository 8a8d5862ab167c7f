"""Finds the key frame to begin decoding at, so that little before a wanted time has to be decoded.

The file is read, not decoded, up to the wanted time, and its packets are counted. So the frames that follow
have the same numbers, times and pixels as if everything had been decoded; where that is not certain, decoding
begins at the beginning.
"""

from dataclasses import replace

import av

from handler.context import Check
from handler.records import VideoFacts
from handler.settings import IntakeSettings
from handler.source.container import open_video
from handler.source.packets import StartPoint

WORTH_SECONDS = 2.0  # less before the wanted time is simply decoded
# Containers whose times cannot jump, with one frame per packet and reliable marks of key frames, and the
# codecs of which that is true there.
INDEXED_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
EXACT_CODECS = {"h264", "hevc", "av1", "vp9", "mpeg4", "mjpeg", "prores", "ffv1"}


def find_start(
    facts: VideoFacts, start_s: float, settings: IntakeSettings, check: Check
) -> StartPoint | None:
    """The last key frame at or before `start_s`, or None if decoding must begin at the beginning.

    `start_s` is in seconds after the first frame; `check` is called for every packet.
    """
    if start_s < WORTH_SECONDS or facts.first_pts is None or facts.in_decode_order:
        return None
    if facts.container not in INDEXED_CONTAINERS or facts.codec not in EXACT_CODECS:
        return None
    wanted = facts.first_pts + int(start_s / facts.time_base)
    found: StartPoint | None = None
    num_packets = num_shown = 0
    last_dts = latest_pts = None
    with open_video(facts.path, settings) as (container, stream):
        try:
            for packet in container.demux(stream):
                check()
                if packet.size == 0:
                    continue  # counted nowhere
                if packet.pts is None or packet.is_corrupt:
                    return None
                if packet.dts is not None:  # MKV has none for the first packets
                    if last_dts is not None and packet.dts <= last_dts:
                        return None
                    last_dts = packet.dts
                if packet.is_keyframe and not packet.is_discard:
                    if latest_pts is not None and packet.pts <= latest_pts:
                        return None  # time runs backwards
                    if packet.pts > wanted:
                        break
                    found = StartPoint(packet_index=num_packets, source_index=num_shown, pts=packet.pts)
                elif found is not None and packet.pts < found.pts and not packet.is_discard:
                    # Stored behind the key frame, shown before it.
                    found = replace(found, source_index=found.source_index + 1)
                latest_pts = packet.pts if latest_pts is None else max(latest_pts, packet.pts)
                num_packets += 1
                num_shown += not packet.is_discard
        except av.FFmpegError:
            return None
    return found if found is not None and found.packet_index > 0 else None

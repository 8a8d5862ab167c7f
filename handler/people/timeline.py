"""Frames on their way out, held back until no earlier measurement can be added. Knows nothing of matching."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from handler.people.life import Track
from handler.records import PeopleInFrame, TrackedFrame, TrackedPerson


class Timeline:
    """The last `n_init` - 1 frames and the confirmed people in them.

    A track is confirmed by its `n_init`-th measurement in a row; the ones before it belong to the frames
    before. PHALP adds them to its dictionary of all frames; here those frames have simply not left yet.

    Memory: `n_init` - 1 frames of people, no textures.
    """

    def __init__(self, n_init: int) -> None:
        self._delay = n_init - 1
        self._held: deque[tuple[PeopleInFrame, int, list[TrackedPerson]]] = deque()

    def add(self, frame: PeopleInFrame, tracks: Sequence[Track]) -> Iterator[TrackedFrame]:
        """Put the tracks' state after a frame on the timeline; gives the frames that are complete by now.

        People come in PHALP's order: first the confirmed tracks of the frame itself by age, then, as they are
        confirmed, the ones that were tentative in it.
        """
        people: list[TrackedPerson] = []
        self._held.append((replace(frame, people=()), len(frame.people), people))
        for track in tracks:
            if not track.confirmed:
                continue
            people.append(
                TrackedPerson(
                    track_id=track.track_id,
                    state="tracked" if track.time_since_update == 0 else "predicted",
                    frames_since_seen=track.time_since_update,
                    person=track.person,
                    prediction=track.expected,
                )
            )
            for frames_back, person in enumerate(reversed(track.take_unreported()), start=1):
                self._held[-1 - frames_back][2].append(
                    TrackedPerson(
                        track_id=track.track_id,
                        state="tracked",
                        frames_since_seen=0,
                        person=person,
                        back_filled=True,
                    )
                )
        while len(self._held) > self._delay:
            yield self._release()

    def flush(self) -> Iterator[TrackedFrame]:
        """The frames still held when the video ends."""
        while self._held:
            yield self._release()

    def _release(self) -> TrackedFrame:
        frame, num_detected, people = self._held.popleft()
        return TrackedFrame(
            frame_index=frame.frame_index,
            source_index=frame.source_index,
            pts=frame.pts,
            pts_seconds=frame.pts_seconds,
            width=frame.width,
            height=frame.height,
            people=tuple(people),
            num_detected=num_detected,
            shot=frame.shot,
            is_corrupt=frame.is_corrupt,
        )

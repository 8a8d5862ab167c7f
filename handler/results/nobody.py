"""Whether anybody is in the video at all, whoever of them is kept. Knows nothing of files."""

from collections.abc import Iterable, Iterator

from handler.records import TrackedFrame, Warn


class Presence:
    """Looks at the frames before any of their people are left out.

    Args:
        n_init: measurements in a row that make an identity.
    """

    def __init__(self, n_init: int) -> None:
        self._n_init = n_init
        self._num_detected = 0
        self._is_empty = True

    def note(self, frames: Iterable[TrackedFrame]) -> Iterator[TrackedFrame]:
        """The same frames, looked at."""
        for frame in frames:
            self._num_detected += frame.num_detected
            self._is_empty = self._is_empty and not frame.people
            yield frame

    def warnings(self) -> tuple[Warn, ...]:
        """NO_PEOPLE if there is no identity in the whole video; ask after the last frame."""
        if not self._is_empty:
            return ()
        message = "nobody was found in the video"
        if self._num_detected:
            message = (
                f"nobody was in sight for {self._n_init} frames in a row (phalp.n_init); "
                f"shorter sightings: {self._num_detected}"
            )
        return (Warn(code="NO_PEOPLE", message=message),)

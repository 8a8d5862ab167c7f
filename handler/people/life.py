"""The life of one track: tentative, confirmed, lost, gone. Knows nothing of matching or prediction."""

from dataclasses import dataclass, field

from handler.records import Person, Prediction
from model_cache.interfaces import Texture


@dataclass(slots=True, kw_only=True)
class Track:
    """One identity that may still be seen again.

    Attributes:
        track_id: from 1; tentative tracks that die use numbers up, as in PHALP.
        person: the newest measurement, without its texture.
        texture: the texture mixed from all measurements; the only one kept.
        confirmed: seen often enough to be reported.
        hits: measurements.
        age: frames since the first measurement, counted from 1.
        time_since_update: frames since the newest measurement.
        expected: what was expected in this frame, if the track was not seen in it.
    """

    track_id: int
    person: Person
    texture: Texture
    confirmed: bool
    hits: int = 1
    age: int = 1
    time_since_update: int = 0
    expected: Prediction | None = None
    _unreported: list[Person] = field(default_factory=list)

    def next_frame(self) -> None:
        """Let a frame pass."""
        self.age += 1
        self.time_since_update += 1

    def matched(self, person: Person, n_init: int) -> None:
        """Take the measurement of this frame; the `n_init`-th confirms the track."""
        if not self.confirmed:
            self._unreported.append(self.person)
        self.person = person
        self.expected = None
        self.hits += 1
        self.time_since_update = 0
        self.confirmed = self.confirmed or self.hits >= n_init

    def missed(self, expected: Prediction, max_age: int) -> bool:
        """Do without a measurement in this frame.

        Returns:
            Whether the track lives on: a tentative one does not, a confirmed one for `max_age` frames.
        """
        self.expected = expected
        return self.confirmed and self.time_since_update <= max_age

    def take_unreported(self) -> list[Person]:
        """Measurements of the frames before the confirmation, oldest first; once."""
        unreported, self._unreported = self._unreported, []
        return unreported

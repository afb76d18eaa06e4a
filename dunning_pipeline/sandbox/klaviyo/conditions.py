"""How an account behaves besides its answers: latency, a clock that is wrong, events that show late and in disorder."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from random import Random


@dataclass
class Conditions:
    """May be changed at any moment.

    `latency` passes before each answer, in seconds. `clock_skew` is how far the server's clock is ahead. An accepted
    event shows in the endpoints that read `processing_seconds[0]` to `[1]` seconds later, drawn at random, so that
    later ones can show earlier.
    """

    latency: float = 0.0
    clock_skew: timedelta = timedelta()
    processing_seconds: tuple[float, float] = (0.0, 0.0)
    random: Random = field(default_factory=lambda: Random(0), repr=False)

    def processing_time(self) -> timedelta:
        """How long the next event takes."""
        return timedelta(seconds=self.random.uniform(*self.processing_seconds))

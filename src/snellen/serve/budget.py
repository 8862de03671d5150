"""How much may be under way at once: bytes of bodies and pictures without an answer. More is refused with 429.

For the event loop's thread alone: nothing here is locked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from snellen.serve.refusals import RefusedError


class Share:
    """What one request holds of a budget; it grows while its body arrives."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.held = 0

    def grow(self, amount: int) -> None:
        """Raises RefusedError (429) where nothing is left."""
        self._budget.take(amount)
        self.held += amount

    def require(self, total: int) -> None:
        """Hold at least `total`."""
        if total > self.held:
            self.grow(total - self.held)


class Budget:
    """`limit` of something, shared by all requests."""

    def __init__(self, limit: int, guess_wait_s: Callable[[], float]) -> None:
        self._limit = limit
        self._guess_wait_s = guess_wait_s
        self.used = 0

    def take(self, amount: int) -> None:
        """One that asks for more than the whole gets it while nobody else holds any."""
        if self.used and self.used + amount > self._limit:
            raise self.refuse()
        self.used += amount

    def require_room(self) -> None:
        """Raise RefusedError where nothing is left: told before a body is read."""
        if self.used >= self._limit:
            raise self.refuse()

    def refuse(self) -> RefusedError:
        """429, with a guess when it is worth to come again."""
        return RefusedError(
            429,
            "busy",
            "The server has as much to do as it may take on.",
            "Send the same request again after the seconds in Retry-After, or fewer pictures at once.",
            self._guess_wait_s(),
        )

    @contextmanager
    def share(self, amount: int = 0) -> Iterator[Share]:
        """Within, `amount` and what it grows by are held."""
        share = Share(self)
        try:
            share.require(amount)
            yield share
        finally:
            self.used -= share.held

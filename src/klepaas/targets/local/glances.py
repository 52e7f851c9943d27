"""Containers as they were seen a moment ago, for those who would only look again at what was just looked at."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from klepaas.domain.observation import Observation
from klepaas.domain.release import Release
from klepaas.targets.local.container import Container

BELIEVED_S = 0.1
"""A look takes the engine 1 to 10 ms; what changes in a tenth of a second also changes right after a look."""

ANSWER_BELIEVED_S = 0.02
"""What an app answered: it is asked again within one or two milliseconds."""


class Glances:
    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, Container]] = {}
        self._ours: dict[str, Observation | None] = {}
        self._under_change: Counter[str] = Counter()
        self._changes: Counter[str] = Counter()

    @contextmanager
    def changing(self, release_id: str) -> Iterator[None]:
        """We change its container ourselves: what was seen before or is seen meanwhile is not believed afterwards."""
        self._under_change[release_id] += 1
        self._note_change(release_id)
        try:
            yield
        finally:
            self._under_change[release_id] -= 1
            self._note_change(release_id)

    def changes(self, release: Release) -> int:
        """Begun and ended ones. A look during which this rises may have seen what was before."""
        return self._changes[release.id]

    def keep(self, release: Release, found: Container, *, since: int) -> None:
        """What a look saw that began when there were so many `changes`."""
        if self._under_change[release.id] or since != self.changes(release):
            return
        now = time.monotonic()
        self._seen = {key: each for key, each in self._seen.items() if now - each[0] < BELIEVED_S}
        self._seen[release.id] = (now, found)

    def of(self, release: Release) -> Container | None:
        """The container if it was seen just now and nothing was done to it since."""
        at, found = self._seen.get(release.id, (float("-inf"), None))
        return found if time.monotonic() - at < BELIEVED_S else None

    def keep_ours(self, release: Release, found: Container, seen: Observation | None) -> None:
        """What it must be like after what we did to it ourselves just now, and what was seen of it already."""
        self.keep(release, found, since=self.changes(release))
        self._ours[release.id] = seen

    def take_ours(self, release: Release) -> tuple[Container | None, Observation | None]:
        """The same, for the first one who would look whether it worked."""
        if release.id not in self._ours:
            return None, None
        seen, found = self._ours.pop(release.id), self.of(release)
        at, _ = self._seen.get(release.id, (float("-inf"), None))
        return found, seen if time.monotonic() - at < ANSWER_BELIEVED_S else None

    def forget(self, release: Release) -> None:
        self._seen.pop(release.id, None)
        self._ours.pop(release.id, None)

    def _note_change(self, release_id: str) -> None:
        self._changes[release_id] += 1
        self._seen.pop(release_id, None)
        self._ours.pop(release_id, None)

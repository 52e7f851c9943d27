"""Port leases that live as long as the test that made them."""

from collections.abc import Mapping

from klepaas.errors import Rejected


class MemoryLeases:
    """Keeps the contract of the database's leases. `taken` are ports not offered again."""

    def __init__(self, first: int, last: int) -> None:
        self._range = range(first, last + 1)
        self._held: dict[str, int] = {}
        self._taken: set[int] = set()

    async def lease(self, holder: str) -> int:
        if holder not in self._held:
            self._held[holder] = self._free()
        return self._held[holder]

    async def replace(self, holder: str, taken: int) -> int:
        self._taken.add(taken)
        if self._held.get(holder) == taken:
            del self._held[holder]
        return await self.lease(holder)

    async def hand_over(self, holder: str, to: str) -> int | None:
        if holder not in self._held or to in self._held:
            return None
        self._held[to] = self._held.pop(holder)
        return self._held[to]

    async def free(self, holder: str) -> None:
        self._held.pop(holder, None)

    async def leased(self) -> Mapping[str, int]:
        return dict(self._held)

    def _free(self) -> int:
        unusable = self._taken | set(self._held.values())
        for port in self._range:
            if port not in unusable:
                return port
        raise Rejected("No port is free.")

"""What is made of measured numbers: medians, percentiles, ratios, and the order in which the sides take turns."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field


def turns(sides: Sequence[str], runs: int) -> Iterator[str]:
    """Each side `runs` times. Every round begins with another side, so that none always follows the same one."""
    for run in range(runs):
        first = run % len(sides)
        yield from (*sides[first:], *sides[:first])


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all values do not exceed (nearest rank). Errors: ValueError when empty."""
    if not values:
        raise ValueError("there is no percentile of nothing")
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)]


def ratio(ours: Sequence[float], floor: Sequence[float]) -> float:
    """Median to median. Errors: ValueError (StatisticsError) when a side is empty, ZeroDivisionError."""
    return statistics.median(ours) / statistics.median(floor)


@dataclass
class Samples:
    """Measured values of each side, in the order they came."""

    by_side: dict[str, list[float]] = field(default_factory=dict)

    def add(self, side: str, value: float) -> None:
        self.by_side.setdefault(side, []).append(value)

    def median(self, side: str) -> float:
        return statistics.median(self.by_side[side])

    def ratio(self, side: str, floor: str) -> float:
        return ratio(self.by_side[side], self.by_side[floor])

    def row(self, side: str) -> Mapping[str, float]:
        """`median`, `min` and `max` of a side."""
        values = self.by_side[side]
        return {"median": statistics.median(values), "min": min(values), "max": max(values)}

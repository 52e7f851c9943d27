"""What the bench makes of measured numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import Samples, percentile, ratio, turns

VALUES = st.lists(st.floats(min_value=0, max_value=1e9), min_size=1)


def test_every_side_gets_as_many_turns_and_is_first_in_turn() -> None:
    order = list(turns(("a", "b", "c"), 4))

    assert order == ["a", "b", "c", "b", "c", "a", "c", "a", "b", "a", "b", "c"]


def test_two_sides_alternate_their_order() -> None:
    assert list(turns(("klepaas", "floor"), 2)) == ["klepaas", "floor", "floor", "klepaas"]


def test_a_percentile_is_one_of_the_values_by_nearest_rank() -> None:
    values = [float(n) for n in range(100, 0, -1)]

    assert (percentile(values, 50), percentile(values, 99), percentile(values, 100)) == (50, 99, 100)
    assert percentile([7.0], 99) == 7
    assert percentile([1.0, 2.0], 99) == 2
    assert percentile([3.0, 1.0], 0) == 1


@given(VALUES, st.floats(min_value=0, max_value=100))
def test_a_percentile_never_hides_more_than_it_says(values: list[float], percent: float) -> None:
    found = percentile(values, percent)

    assert sum(value <= found for value in values) >= len(values) * percent / 100 - 1e-6


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 99)


def test_a_ratio_compares_medians_so_that_one_disturbed_run_does_not_decide() -> None:
    assert ratio([110, 110, 9000], [100, 100, 1]) == pytest.approx(1.1)


def test_a_ratio_to_an_empty_floor_is_refused() -> None:
    with pytest.raises(ValueError, match="median"):
        ratio([1.0], [])


def test_samples_are_kept_apart_by_side() -> None:
    samples = Samples()
    for value in (3.0, 1.0, 2.0):
        samples.add("klepaas", value)
    samples.add("floor", 4.0)

    assert samples.median("klepaas") == 2
    assert samples.row("klepaas") == {"median": 2, "min": 1, "max": 3}
    assert samples.ratio("klepaas", "floor") == 0.5

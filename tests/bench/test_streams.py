"""How the bench judges what subscribers got."""

from bench.streams import Faults, Subscriber, faults_of


def subscriber(*numbers: int, ended: bool = True) -> Subscriber:
    return Subscriber(events=[(number, 0.0) for number in numbers], ended_in_order=ended)


def test_every_event_once_in_order_and_an_end_is_no_fault() -> None:
    assert faults_of([subscriber(1, 2, 3), subscriber(1, 2, 3)], [1, 2, 3]) == Faults()


def test_each_kind_of_fault_is_counted_over_all_subscribers() -> None:
    found = faults_of([subscriber(1, 3), subscriber(1, 2, 2, 3), subscriber(2, 1, 3, ended=False)], [1, 2, 3])

    assert found == Faults(missing=1, duplicates=1, out_of_order=1, cut_off=1)


def test_a_subscriber_that_got_nothing_misses_everything() -> None:
    assert faults_of([subscriber()], [1, 2, 3]).missing == 3

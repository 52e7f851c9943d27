"""What every target keeps, as tests. Shipped, because people who write a target need them.

Subclass `TargetContract` in a test module and give it a fixture `place`; add the other classes for the optional
powers the target has."""

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from klepaas.domain.observation import Health, Observation
from klepaas.domain.project import App
from klepaas.domain.release import Release
from klepaas.targets.protocol import CommandSeen, KeepsWarm, Plan, RunsCommands, ShiftsTraffic, ShowsEverything, Target

PATIENCE_S = 60.0
"""How long a release may take to be as expected; a guess for a machine under load."""

SECRET = "a-value-that-must-not-be-shown"


class Place(Protocol):
    """A target to try, and releases it can run."""

    @property
    def target(self) -> Target: ...

    @property
    def app(self) -> App: ...

    async def release(self, number: int) -> Release:
        """A release of an app that answers 200 on its health path, has one variable GREETING and writes the line
        `release {number} began` to its log. The same number is the same release."""

    async def broken_release(self, number: int) -> Release:
        """A release whose app never answers as agreed."""


class PlaceWithCommands(Place, Protocol):
    """For targets that run commands."""

    async def release_with_command(self, number: int, *, exit_code: int) -> Release:
        """The same as `release`, with a command that writes the lines `command began` and `GREETING is …`, the latter
        with the variable's value, and ends with this exit code."""


class TargetContract:
    async def test_a_release_that_was_never_applied_is_observed_as_absent(self, place: Place) -> None:
        observed = await place.target.observe(place.app, await place.release(1))

        assert observed.health is Health.ABSENT

    async def test_a_working_release_becomes_healthy_with_its_own_digest(self, place: Place) -> None:
        release = await _applied(place, 1)
        observed = await becomes(place, release, Health.HEALTHY)

        assert observed.image_digest == release.image_digest
        assert observed.probe is not None
        assert observed.probe.ready
        assert observed.ready_replicas == 1

    async def test_applying_twice_adopts_the_one_workload(self, place: Place) -> None:
        release = await _applied(place, 1)
        first = await place.target.observe(place.app, release)
        await _applied(place, 1)
        second = await place.target.observe(place.app, release)

        assert first.workload_id == second.workload_id
        assert list(await place.target.running(place.app)) == [release.id]

    async def test_two_releases_run_beside_each_other(self, place: Place) -> None:
        first, second = await _applied(place, 1), await _applied(place, 2)
        seen = [await becomes(place, release, Health.HEALTHY) for release in (first, second)]

        assert seen[0].workload_id != seen[1].workload_id
        assert sorted(await place.target.running(place.app)) == sorted([first.id, second.id])

    async def test_a_broken_release_is_never_healthy_and_says_why(self, place: Place) -> None:
        release = await place.broken_release(3)
        await place.target.apply(place.app, release, {"GREETING": SECRET})
        seen = [await place.target.observe(place.app, release) for _ in range(5)]

        assert Health.HEALTHY not in {observed.health for observed in seen}
        assert all(observed.detail for observed in seen)

    async def test_removing_is_idempotent_and_leaves_nothing_running(self, place: Place) -> None:
        release = await _applied(place, 1)
        await place.target.remove(place.app, release)
        await place.target.remove(place.app, release)

        assert (await place.target.observe(place.app, release)).health is Health.ABSENT
        assert list(await place.target.running(place.app)) == []

    async def test_removing_one_release_leaves_the_other(self, place: Place) -> None:
        first, second = await _applied(place, 1), await _applied(place, 2)
        await place.target.remove(place.app, first)

        assert list(await place.target.running(place.app)) == [second.id]
        await becomes(place, second, Health.HEALTHY)

    async def test_the_log_can_be_read_while_it_runs_and_after_it_was_removed(self, place: Place) -> None:
        release = await _applied(place, 1)
        await becomes(place, release, Health.HEALTHY)
        alive = await place.target.tail(place.app, release, 200)
        await place.target.remove(place.app, release)
        gone = await place.target.tail(place.app, release, 200)

        assert "release 1 began" in alive
        assert list(gone)[: len(alive)] == list(alive)

    async def test_a_plan_names_variables_and_never_shows_values(self, place: Place) -> None:
        release = await _applied(place, 1)
        plan: Plan = place.target.plan(place.app, release)

        assert "GREETING" in repr(plan)
        assert SECRET not in repr(plan)
        assert release.image_digest in repr(plan)

    async def test_a_check_of_a_working_target_passes(self, place: Place) -> None:
        await place.target.check()


class ShiftsTrafficContract:
    async def test_opening_again_gives_the_same_address(self, place: Place) -> None:
        front = _front(place)
        first = await front.open(place.app, [])

        assert first.urls
        assert first == await front.open(place.app, [])

    async def test_the_address_is_known_without_opening_anything(self, place: Place) -> None:
        front = _front(place)
        before = await front.address(place.app, [])
        opened = await front.open(place.app, [])

        assert before.urls == ()
        assert await front.address(place.app, []) == opened

    async def test_nothing_answers_before_the_first_shift(self, place: Place) -> None:
        front = _front(place)
        await front.open(place.app, [])
        await _applied(place, 1)
        answer = await front.answering(place.app, "/")

        assert answer.release_id is None

    async def test_traffic_goes_to_the_release_it_was_shifted_to(self, place: Place) -> None:
        front = _front(place)
        await front.open(place.app, [])
        answered = []
        for number in (1, 2, 1):
            release = await _applied(place, number)
            await becomes(place, release, Health.HEALTHY)
            await front.shift(place.app, release)
            await front.shift(place.app, release)
            answer = await front.answering(place.app, "/")
            answered.append((answer.status, answer.release_id == release.id))

        assert answered == [(200, True)] * 3

    async def test_closing_is_idempotent_and_ends_the_traffic(self, place: Place) -> None:
        front = _front(place)
        await front.open(place.app, [])
        release = await _applied(place, 1)
        await becomes(place, release, Health.HEALTHY)
        await front.shift(place.app, release)
        await front.close(place.app)
        await front.close(place.app)

        assert (await front.answering(place.app, "/")).release_id is None

    async def test_a_release_without_traffic_has_no_open_connections(self, place: Place) -> None:
        front = _front(place)
        release = await _applied(place, 1)
        await becomes(place, release, Health.HEALTHY)

        assert await front.open_connections(place.app, release) in {0, None}


class KeepsWarmContract:
    async def test_a_parked_release_thaws_as_the_same_workload(self, place: Place) -> None:
        target = place.target
        assert isinstance(target, KeepsWarm)
        release = await _applied(place, 1)
        before = await becomes(place, release, Health.HEALTHY)
        parked = [await target.park(place.app, release), await target.park(place.app, release)]
        frozen = await place.target.observe(place.app, release)
        await _applied(place, 1)
        after = await becomes(place, release, Health.HEALTHY)

        assert parked == [True, True]
        assert frozen.health is Health.PARKED
        assert after.workload_id == before.workload_id

    async def test_what_is_not_there_cannot_be_parked(self, place: Place) -> None:
        target = place.target
        assert isinstance(target, KeepsWarm)

        assert await target.park(place.app, await place.release(1)) is False

    async def test_a_parked_release_can_be_removed(self, place: Place) -> None:
        target = place.target
        assert isinstance(target, KeepsWarm)
        release = await _applied(place, 1)
        await becomes(place, release, Health.HEALTHY)
        await target.park(place.app, release)
        await place.target.remove(place.app, release)

        assert (await place.target.observe(place.app, release)).health is Health.ABSENT


class RunsCommandsContract:
    async def test_a_command_ends_with_its_exit_code_and_its_lines(self, place: PlaceWithCommands) -> None:
        for number, exit_code in ((1, 0), (2, 3)):
            release = await place.release_with_command(number, exit_code=exit_code)
            seen, lines = await _command_of(place, release)

            assert seen.exit_code == exit_code
            assert lines == ["command began", f"GREETING is {SECRET}"]

    async def test_a_command_that_was_begun_is_not_begun_again(self, place: PlaceWithCommands) -> None:
        release = await place.release_with_command(1, exit_code=0)
        await _command_of(place, release)
        _, lines = await _command_of(place, release)

        assert lines.count("command began") == 1

    async def test_a_command_is_no_release_that_runs(self, place: PlaceWithCommands) -> None:
        release = await place.release_with_command(1, exit_code=0)
        await _command_of(place, release)

        assert (await place.target.observe(place.app, release)).health is Health.ABSENT

    async def test_nothing_of_a_command_is_left_when_it_or_its_release_is_taken_away(
        self, place: PlaceWithCommands
    ) -> None:
        target = place.target
        assert isinstance(target, RunsCommands)
        for number, take_away in ((1, target.end_command), (2, place.target.remove)):
            release = await place.release_with_command(number, exit_code=0)
            await _command_of(place, release)
            for _ in range(2):
                await take_away(place.app, release)

            assert release.id not in await place.target.running(place.app)


async def _command_of(place: PlaceWithCommands, release: Release) -> tuple[CommandSeen, list[str]]:
    """The command begun and looked at until it ended, and every line that was seen."""
    target, lines, position = place.target, list[str](), ""
    assert isinstance(target, RunsCommands)
    await target.begin_command(place.app, release, {"GREETING": SECRET})
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        seen = await target.look_at_command(place.app, release, after=position)
        lines, position = [*lines, *seen.lines], seen.position
        if seen.exit_code is not None:
            return seen, lines
        await asyncio.sleep(0.05)
    raise AssertionError(f"the command did not end; it wrote {lines}")


class ShowsEverythingContract:
    async def test_what_the_record_does_not_know_is_shown_and_can_be_discarded(self, place: Place) -> None:
        target = place.target
        assert isinstance(target, ShowsEverything)
        release = await _applied(place, 1)
        found = await target.everything()
        for one in found:
            await target.discard(one)
            await target.discard(one)

        assert [(one.app, one.release_id) for one in found] == [(place.app.name, release.id)]
        assert list(await target.everything()) == []


def _front(place: Place) -> ShiftsTraffic:
    assert isinstance(place.target, ShiftsTraffic)
    return place.target


async def _applied(place: Place, number: int) -> Release:
    release = await place.release(number)
    await place.target.apply(place.app, release, {"GREETING": SECRET})
    return release


async def becomes(place: Place, release: Release, health: Health) -> Observation:
    """The first observation with this health; the test fails when it does not come."""
    seen: list[Observation] = []
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        seen.append(await place.target.observe(place.app, release))
        if seen[-1].health is health:
            return seen[-1]
        await asyncio.sleep(0.05)
    raise AssertionError(f"never {health}: {_told(seen)}")


def _told(seen: Sequence[Observation]) -> str:
    return "; ".join(dict.fromkeys(f"{observed.health}: {observed.detail}" for observed in seen))

"""What is forgotten after a while, and what never is."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from klepaas.domain.observation import Health, Observation
from klepaas.storage.old_logs import forget_logs
from klepaas.storage.tables import observations
from klepaas.watchers.retention import Retention
from tests.workflows.conftest import here as here
from tests.workflows.world import World

KEEP = timedelta(days=90)


async def _retention(here: World, folder: Path, *, leads: bool) -> Retention:
    async def does() -> bool:
        return leads

    def forget(before: object) -> int:
        return forget_logs(folder, before=before)  # type: ignore[arg-type]

    return Retention(context=here.context, keep=KEEP, forget_logs=forget, leads=does)


def _log(path: Path, *, days: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a line\n")
    at = time.time() - days * 86400
    os.utime(path, (at, at))
    return path


async def test_old_logs_go_and_newer_ones_and_strangers_stay(here: World, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    old = [
        _log(folder / "builds" / "dep_1" / "1.log", days=91),
        _log(folder / "shop-production" / "rel_1.log", days=91),
    ]
    attempts = [
        _log(folder / "builds" / "dep_2" / "1.log", days=91),
        _log(folder / "builds" / "dep_2" / "2.log", days=1),
    ]
    notes = _log(folder / "notes.txt", days=91)
    outside = _log(tmp_path / "outside.log", days=91)
    link = folder / "builds" / "dep_1" / "2.log"
    link.symlink_to(outside)
    await (await _retention(here, folder, leads=False)).look()

    assert [path.exists() for path in (*old, *attempts)] == [False, False, False, True]
    assert notes.exists()
    assert outside.exists()
    assert link.is_symlink()


@pytest.mark.parametrize("leads", [True, False])
async def test_what_watchers_saw_long_ago_is_forgotten_but_for_the_newest_of_each_app(
    here: World, tmp_path: Path, leads: bool
) -> None:
    states = [await here.context.apps.ensure(await here.project(name), "production") for name in ("shop", "blog")]
    long_ago = here.context.clock.now() - KEEP - timedelta(days=1)
    for state in states:
        for detail in ("one", "two"):
            seen = Observation(at=long_ago, health=Health.STOPPED, detail=detail)
            await here.context.apps.observed(state, seen, action="looked")
    await here.context.apps.observed(
        states[0], Observation(at=here.context.clock.now(), health=Health.HEALTHY, detail="three"), action="looked"
    )
    await (await _retention(here, tmp_path / "none", leads=leads)).look()

    async with here.database.read() as connection:
        left = list(await connection.scalars(sa.select(observations.c.detail).order_by(observations.c.number)))
    assert left == (["two", "three"] if leads else ["one", "two", "one", "two", "three"])

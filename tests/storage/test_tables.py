import asyncio
import sqlite3
import stat
import time
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from klepaas.domain.actor import Scope
from klepaas.domain.connection import Connection, ConnectionKind, Credential
from klepaas.domain.events import DeploymentSucceeded, TrafficShiftDecided, TrafficShifted
from klepaas.domain.github import RepositoryName
from klepaas.domain.observation import Health, Observation
from klepaas.domain.project import ProjectSettings
from klepaas.domain.repository import parse_repository
from klepaas.errors import Conflict, NotFound, WrongKey
from klepaas.operations.ports.owners import Owner
from klepaas.operations.ports.tokens import Token
from klepaas.storage.database import Database
from klepaas.storage.keys import open_sealer
from klepaas.storage.sealing import new_key, parse_keys
from klepaas.storage.sqlite import LOCK_TIMEOUT_MS
from tests.storage.worlds import NOW, Memory, a_project

SECRET = "correct-horse-battery-staple"


async def test_a_project_comes_back_as_it_was_added(memory: Memory) -> None:
    settings = ProjectSettings(port=3000, hosts=("shop.example.org",), cpus=0.5, health_path="/ready")
    added = await memory.project(
        settings=settings, repository=parse_repository("ssh://git@example.org/a/b.git"), auto_deploy=True
    )

    assert added.number > 0
    assert await memory.projects.get(added.id) == added
    assert await memory.projects.named(added.name, added.owner_id) == [added]
    assert await memory.projects.named(added.name, None) == [added]
    assert await memory.projects.list(added.owner_id) == [added]


async def test_names_belong_to_their_owner(memory: Memory) -> None:
    first = await memory.project(name="shop")
    second = await memory.project(name="shop")
    with pytest.raises(Conflict, match="already a project named shop"):
        await memory.projects.add(a_project(first.owner_id, name="shop"))

    assert {each.id for each in await memory.projects.named("shop", None)} == {first.id, second.id}
    assert await memory.projects.list(second.owner_id) == [second]


async def test_of_two_changes_on_the_same_state_one_is_refused(memory: Memory) -> None:
    """R-32: no lost update, also when the clock stands still."""
    project = await memory.project()
    changed = await memory.projects.change(replace(project, branch="one"), unchanged_since=project.updated_at)
    with pytest.raises(Conflict, match="somebody else"):
        await memory.projects.change(replace(project, branch="two"), unchanged_since=project.updated_at)

    assert await memory.projects.get(project.id) == changed
    assert changed.branch == "one"


async def test_a_retired_project_is_gone_and_its_name_is_free(memory: Memory) -> None:
    project = await memory.project(name="shop")
    await memory.apps.ensure(project, "production")
    other = await memory.project(name="books", target="ncp")
    assert await memory.projects.targets() == {project.id: "local", other.id: "ncp"}
    await memory.projects.retire(project.id, NOW)
    await memory.projects.retire(project.id, NOW)

    assert await memory.projects.targets() == {other.id: "ncp"}
    assert await memory.projects.get(project.id) is None
    assert await memory.projects.named("shop", None) == []
    assert (await memory.projects.add(a_project(project.owner_id, name="shop"))).number > project.number


async def test_a_project_with_a_deployment_under_way_is_not_retired(memory: Memory) -> None:
    project = await memory.project()
    await memory.submit(project)

    with pytest.raises(Conflict, match="under way"):
        await memory.projects.retire(project.id, NOW)


async def test_variables_are_set_replaced_and_removed(memory: Memory) -> None:
    project = await memory.project()
    await memory.projects.set_variables(project.id, "production", {"A": "1", "B": "2", "C": ""}, NOW)
    later = NOW + timedelta(hours=1)
    await memory.projects.set_variables(project.id, "production", {"A": "3", "B": None, "X": None}, later)

    assert await memory.projects.variable_names(project.id, "production") == {"A": later, "C": NOW}
    assert await memory.projects.variable_names(project.id, "staging") == {}


async def test_the_same_variable_set_by_many_at_once_is_set_once(memory: Memory) -> None:
    """R-32."""
    project = await memory.project()
    await asyncio.gather(
        *(memory.projects.set_variables(project.id, "production", {"A": str(n)}, NOW) for n in range(20))
    )

    assert list(await memory.projects.variable_names(project.id, "production")) == ["A"]


async def test_a_release_is_a_snapshot(memory: Memory) -> None:
    project = await memory.project(settings=ProjectSettings(port=3000))
    await memory.projects.set_variables(project.id, "production", {"A": SECRET, "B": "한글"}, NOW)
    await memory.projects.set_variables(project.id, "staging", {"A": "other"}, NOW)
    release_id = await memory.release(project, await memory.submit(project))
    await memory.projects.set_variables(project.id, "production", {"A": None, "B": "changed"}, NOW)

    release = await memory.releases.get(release_id)
    assert release is not None
    assert (release.number, release.settings.port, release.variable_names) == (1, 3000, ("A", "B"))
    assert await memory.releases.variables(release_id) == {"A": SECRET, "B": "한글"}


async def test_a_release_created_again_for_its_deployment_is_the_same_one(memory: Memory) -> None:
    project = await memory.project()
    deployment = await memory.submit(project)
    made = await asyncio.gather(*(memory.release(project, deployment) for _ in range(5)))

    assert len(set(made)) == 1


async def test_releases_are_numbered_per_app_without_gaps_or_twins(memory: Memory) -> None:
    project = await memory.project()
    deployments = [await memory.submit(project) for _ in range(8)] + [
        await memory.submit(project, environment="staging")
    ]
    made = await asyncio.gather(*(memory.release(project, each) for each in deployments))

    numbers = [release.number for each in made if (release := await memory.releases.get(each))]
    assert sorted(numbers[:8]) == list(range(1, 9))
    assert numbers[8] == 1


async def test_equal_environments_compare_equal_and_others_do_not(memory: Memory) -> None:
    project = await memory.project()
    digests = []
    for values in ({"A": "1"}, {"A": "2"}, {"A": "1"}):
        await memory.projects.set_variables(project.id, "production", dict(values), NOW)
        release = await memory.releases.get(await memory.release(project, await memory.submit(project)))
        assert release is not None
        digests.append(release.environment_digest)

    assert digests[0] == digests[2] != digests[1]


async def test_a_rebuilt_release_takes_settings_and_variables_of_the_earlier_one(memory: Memory) -> None:
    project = await memory.project(settings=ProjectSettings(port=3000))
    await memory.projects.set_variables(project.id, "production", {"A": "then"}, NOW)
    earlier = await memory.release(project, await memory.submit(project))
    await memory.projects.set_variables(project.id, "production", {"A": "now"}, NOW)
    project = await memory.projects.change(
        replace(project, settings=ProjectSettings(port=4000)), unchanged_since=project.updated_at
    )
    again = await memory.release(project, await memory.submit(project, settings_of=earlier))

    release = await memory.releases.get(again)
    assert release is not None
    assert release.settings.port == 3000
    assert await memory.releases.variables(again) == {"A": "then"}


async def test_a_wrong_key_is_never_an_empty_environment(memory: Memory) -> None:
    """R-33."""
    project = await memory.project()
    await memory.projects.set_variables(project.id, "production", {"A": SECRET}, NOW)
    release_id = await memory.release(project, await memory.submit(project))
    stranger = Memory(memory.database, bytes(32))

    with pytest.raises(WrongKey, match=release_id):
        await stranger.releases.variables(release_id)
    with pytest.raises(WrongKey, match=f"variable:{project.id}:production:A"):
        await stranger.release(project, await memory.submit(project))
    with pytest.raises(NotFound):
        await memory.releases.variables("rel_nobody")


async def test_everything_is_sealed_again_when_a_new_key_takes_over(memory: Memory, tmp_path: Path) -> None:
    """R-33: given both keys once, klepaas needs the earlier one no more."""
    earlier, new = new_key(), new_key()

    async def start(keys: str) -> Memory:
        await open_sealer(memory.facts, key_file=tmp_path / "secret.key", given=keys)
        return Memory(memory.database, *parse_keys(keys))

    before = await start(earlier)
    project = await before.project()
    connection = Connection(
        id="con_1", owner_id=project.owner_id, kind=ConnectionKind.GIT_BASIC, name="forge", created_at=NOW
    )
    await before.connections.add(connection, Credential(username="ann", password=SECRET))
    await before.projects.set_variables(project.id, "production", {"A": SECRET}, NOW)
    old_release = await before.release(project, await before.submit(project))
    await start(f"{new},{earlier}")

    after = await start(new)
    assert await after.connections.open("con_1") == Credential(username="ann", password=SECRET)
    assert await after.releases.variables(old_release) == {"A": SECRET}
    new_release = await after.release(project, await after.submit(project))
    digests = {r.environment_digest for i in (old_release, new_release) if (r := await after.releases.get(i))}
    assert len(digests) == 1, "what did not change does not look changed"
    with pytest.raises(WrongKey):
        await start(earlier)


async def test_only_releases_that_were_live_are_offered_newest_first(memory: Memory) -> None:
    project = await memory.project()
    await memory.queue.join("node", 60)
    live = []
    for proven in (True, False, True):
        deployment = await memory.submit(project)
        release_id = await memory.release(project, deployment)
        await memory.queue.claim("node", 1)
        await _end(memory, deployment.id, release_id, proven=proven)
        live += [release_id] if proven else []

    found = await memory.releases.of_app(project.id, "production")
    assert [each.id for each in found] == live[::-1]
    assert list(await memory.releases.of_app(project.id, "production", limit=1)) == list(found[:1])


async def test_the_record_follows_the_decision_to_switch(memory: Memory) -> None:
    project = await memory.project()
    await memory.queue.join("node", 60)
    await memory.apps.ensure(project, "production")
    deployment = await memory.submit(project)
    release_id = await memory.release(project, deployment)
    await memory.queue.claim("node", 1)
    await _end(memory, deployment.id, release_id, proven=True)

    state = await memory.apps.get(project.id, "production")
    assert state is not None
    assert (state.live_release_id, state.live_deployment_id, state.health) == (
        release_id,
        deployment.id,
        Health.HEALTHY,
    )


async def test_an_app_has_one_name_that_nobody_else_has(memory: Memory) -> None:
    one, other = await memory.project(name="shop"), await memory.project(name="shop")
    split = await memory.project(name="shop-production")
    states = await asyncio.gather(
        *(memory.apps.ensure(project, "production") for project in (one, other) for _ in range(5)),
        memory.apps.ensure(await memory.project(name="a"), "b-c"),
        memory.apps.ensure(await memory.project(name="a-b"), "c"),
        memory.apps.ensure(split, "x" * 40),
        memory.apps.ensure(await memory.project(name="y" * 40), "x" * 40),
    )

    by_key = {state.app.key: state.app.name for state in states}
    assert len(by_key) == len(set(by_key.values())) == 6
    assert "shop-production" in by_key.values()
    assert {state.app.name for state in await memory.apps.all()} == set(by_key.values())
    for name in by_key.values():
        assert len(name) <= 63
        assert all(part.isalnum() for part in name.split("-"))


async def test_an_observation_is_history_when_it_differs_or_something_was_done(memory: Memory) -> None:
    project = await memory.project()
    state = await memory.apps.ensure(project, "production")
    healthy = Observation(at=NOW, health=Health.HEALTHY, detail="HTTP 200")
    await memory.apps.observed(state, healthy)
    state = await memory.apps.ensure(project, "production")
    await memory.apps.observed(state, healthy)
    await memory.apps.observed(state, replace(healthy, health=Health.STOPPED, detail="gone \0"), action="started again")
    await memory.apps.observed(
        await memory.apps.ensure(project, "production"), replace(healthy, health=Health.STOPPED, detail="gone \0")
    )

    changes = await memory.apps.changes(state.app.key)
    assert [(each.health, each.action) for each in changes] == [
        (Health.STOPPED, "started again"),
        (Health.HEALTHY, ""),
    ]
    assert [each.number for each in await memory.apps.changes(state.app.key, limit=1)] == [changes[0].number]


async def test_what_was_seen_of_a_release_that_is_not_live_any_more_changes_nothing(memory: Memory) -> None:
    project = await memory.project()
    await memory.queue.join("node", 60)
    before = await memory.apps.ensure(project, "production")
    deployment = await memory.submit(project)
    release_id = await memory.release(project, deployment)
    await memory.queue.claim("node", 1)
    await _end(memory, deployment.id, release_id, proven=True)
    await memory.apps.observed(before, Observation(at=NOW, health=Health.UNHEALTHY, detail="old news"))

    state = await memory.apps.get(project.id, "production")
    assert state is not None
    assert state.health is Health.HEALTHY


async def test_projects_of_a_repository_are_never_older_than_what_was_seen_of_them(memory: Memory) -> None:
    """They are kept between deliveries; a commit may be seen by others before whoever wrote it goes on."""
    project = await memory.project()
    called = RepositoryName(owner=project.repository.owner or "", name=project.repository.name or "")
    assert [each.id for each in await memory.projects.of_repository(called)] == [project.id]
    async with memory.database.write() as connection:
        await connection.execute(sa.text("UPDATE projects SET branch = 'next'"))
        assert memory.database.state is None
    assert [each.branch for each in await memory.projects.of_repository(called)] == ["next"]


async def test_a_warm_release_is_remembered_until_it_is_not(memory: Memory) -> None:
    project = await memory.project()
    app = (await memory.apps.ensure(project, "production")).app
    await memory.apps.warm(app, "rel_1", NOW)
    state = await memory.apps.get(project.id, "production")
    assert state is not None
    assert (state.warm_release_id, state.warm_until) == ("rel_1", NOW)
    await memory.apps.warm(app, None, None)
    state = await memory.apps.get(project.id, "production")
    assert state is not None
    assert state.warm_release_id is None


async def test_owners_have_names_of_their_own(memory: Memory) -> None:
    ann = await memory.owner("ann")
    with pytest.raises(Conflict, match="already an owner named ann"):
        await memory.owners.add(Owner(id="own_other", name="ann", created_at=NOW))

    assert await memory.owners.named("ann") == ann
    assert await memory.owners.named("bob") is None
    assert await memory.owners.list() == [ann]


async def test_a_token_is_found_with_its_hash_and_can_be_revoked_once(memory: Memory) -> None:
    """S-08."""
    owner = await memory.owner()
    assert not await memory.tokens.any()
    token = Token(
        id="tok_1",
        owner_id=owner.id,
        name="laptop",
        scope=Scope.DEPLOY,
        created_at=NOW,
        expires_at=NOW + timedelta(days=1),
        revoked_at=None,
    )
    await memory.tokens.add(token, "a" * 64)
    assert await memory.tokens.any()
    assert await memory.tokens.by_id("tok_1") == (token, "a" * 64)
    assert await memory.tokens.list(owner.id) == [token]
    assert await memory.tokens.list("own_nobody") == []

    assert await memory.tokens.revoke("tok_1", NOW)
    assert not await memory.tokens.revoke("tok_1", NOW + timedelta(days=1))
    assert await memory.tokens.by_id("tok_1") == (replace(token, revoked_at=NOW), "a" * 64)
    assert await memory.tokens.by_id("tok_2") is None
    with pytest.raises(Conflict):
        await memory.tokens.add(replace(token, id="tok_3", owner_id="own_nobody"), "a" * 64)


async def _operators(memory: Memory) -> Token:
    """A token of the operator that is valid for ever; not kept yet."""
    owner, scope = await memory.owner(), Scope.OPERATOR
    return Token(id="tok_1", owner_id=owner.id, name="x", scope=scope, created_at=NOW, expires_at=None, revoked_at=None)


async def test_the_last_valid_token_of_the_operator_stays(memory: Memory) -> None:
    first = await _operators(memory)
    for token in (
        first,
        replace(first, id="tok_valid", expires_at=NOW + timedelta(days=1)),
        replace(first, id="tok_expired", expires_at=NOW),
        replace(first, id="tok_revoked", revoked_at=NOW),
        replace(first, id="tok_admins", scope=Scope.ADMIN),
    ):
        await memory.tokens.add(token, "a" * 64)

    assert await memory.tokens.revoke("tok_valid", NOW)
    with pytest.raises(Conflict, match="last valid token") as refused:
        await memory.tokens.revoke("tok_1", NOW)
    assert "klepaas tokens create" in refused.value.hint
    assert await memory.tokens.revoke("tok_expired", NOW)
    assert await memory.tokens.revoke("tok_admins", NOW)
    await memory.tokens.add(replace(first, id="tok_new"), "a" * 64)
    assert await memory.tokens.revoke("tok_1", NOW)


async def test_of_the_operators_last_tokens_one_stays_whoever_revokes_them_at_once(memory: Memory) -> None:
    first, names = await _operators(memory), [f"tok_{number}" for number in range(6)]
    for name in names:
        await memory.tokens.add(replace(first, id=name), "a" * 64)

    ends = await asyncio.gather(*(memory.tokens.revoke(name, NOW) for name in names), return_exceptions=True)

    assert sorted(type(end).__name__ for end in ends) == ["Conflict", *["bool"] * 5]


async def test_a_removed_connection_is_gone_and_projects_have_none(memory: Memory) -> None:
    owner = await memory.owner()
    connection = Connection(id="con_1", owner_id=owner.id, kind=ConnectionKind.GIT_BASIC, name="forge", created_at=NOW)
    await memory.connections.add(connection, Credential(username="ann", password=SECRET))
    with pytest.raises(Conflict, match="forge"):
        await memory.connections.add(replace(connection, id="con_2"), Credential(username="ann", password=SECRET))
    project = await memory.project(owner=owner, connection_id="con_1")

    assert await memory.connections.get("con_1") == connection
    assert await memory.connections.list(owner.id) == [connection]
    assert await memory.connections.open("con_1") == Credential(username="ann", password=SECRET)
    with pytest.raises(WrongKey):
        await Memory(memory.database, bytes(32)).connections.open("con_1")
    assert await memory.connections.remove("con_1", NOW) == [project.id]
    assert await memory.connections.remove("con_1", NOW) == []
    assert await memory.connections.get("con_1") is None
    with pytest.raises(NotFound):
        await memory.connections.open("con_1")
    found = await memory.projects.get(project.id)
    assert found is not None
    assert found.connection_id is None


async def test_a_credential_comes_out_with_the_server_it_is_for(memory: Memory) -> None:
    """S-10: whoever is about to send it knows where it may go."""
    owner = await memory.owner()
    connection = Connection(
        id="con_1",
        owner_id=owner.id,
        kind=ConnectionKind.GIT_BASIC,
        name="forge",
        created_at=NOW,
        host="git.example.org:8443",
    )
    await memory.connections.add(connection, Credential(username="ann", password=SECRET))

    assert await memory.connections.get("con_1") == connection
    assert (await memory.connections.open("con_1")).host == "git.example.org:8443"


async def test_a_change_decided_before_its_connection_was_removed_is_a_conflict(memory: Memory) -> None:
    owner = await memory.owner()
    connection = Connection(id="con_1", owner_id=owner.id, kind=ConnectionKind.GIT_BASIC, name="forge", created_at=NOW)
    await memory.connections.add(connection, Credential(username="ann", password=SECRET))
    project = await memory.project(owner=owner, connection_id="con_1")

    await memory.connections.remove("con_1", project.updated_at)

    with pytest.raises(Conflict, match="in the meantime"):
        await memory.projects.change(replace(project, branch="other"), unchanged_since=project.updated_at)


async def test_the_instance_id_is_made_once_however_many_ask_at_once(memory: Memory) -> None:
    made = await asyncio.gather(*(memory.facts.instance_id() for _ in range(10)))

    assert len(set(made)) == 1
    assert await memory.facts.instance_id() == made[0]


async def test_no_secret_is_in_the_files_of_the_database_and_they_are_private(tmp_path: Path) -> None:
    """S-06: SQLite's own files, its write-ahead log included."""
    from klepaas.storage.migrate import migrate

    database = Database(f"sqlite:///{tmp_path / 'home' / 'klepaas.db'}")
    await migrate(database)
    memory = Memory(database)
    project = await memory.project()
    await memory.projects.set_variables(project.id, "production", {"A": SECRET}, NOW)
    await memory.release(project, await memory.submit(project))
    await memory.connections.add(
        Connection(id="con_1", owner_id=project.owner_id, kind=ConnectionKind.GIT_BASIC, name="forge", created_at=NOW),
        Credential(username="ann", password=SECRET),
    )
    files = list((tmp_path / "home").iterdir())
    kept = {file.name: (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) for file in files}
    await database.close()

    assert set(kept) == {"klepaas.db", "klepaas.db-wal", "klepaas.db-shm"}
    assert {mode for _, mode in kept.values()} == {0o600}
    assert all(SECRET.encode() not in content for content, _ in kept.values())
    assert any(b"con_1" in content for content, _ in kept.values()), "the row itself is there"


async def test_a_write_waits_for_another_programs_lock_and_nobody_waits_with_it(tmp_path: Path) -> None:
    from klepaas.storage.migrate import migrate

    database = Database(f"sqlite:///{tmp_path / 'klepaas.db'}")
    await migrate(database)
    memory = Memory(database)
    project = await memory.project()
    with closing(sqlite3.connect(tmp_path / "klepaas.db", isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(memory.submit(project))
        turns = 0
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            await asyncio.sleep(0.005)
            turns += 1
        assert await memory.projects.get(project.id) is not None, "reading goes on"
        assert not writing.done()
        another.execute("COMMIT")
        made = await writing
    async with database.write() as connection:
        waits_ms = (await connection.exec_driver_sql("PRAGMA busy_timeout")).scalar_one()
    found = await memory.deployments.get(made.id)
    await database.close()

    assert turns > 10, "the event loop stood still"
    assert found == made
    assert waits_ms == LOCK_TIMEOUT_MS


async def test_a_full_disk_leaves_the_old_state_or_the_new_one(tmp_path: Path) -> None:
    """R-19: the database may grow page by page; what does not fit is refused as a whole and nothing is torn."""
    from klepaas.errors import DiskFull
    from klepaas.storage.migrate import migrate

    database = Database(f"sqlite:///{tmp_path / 'klepaas.db'}")
    await migrate(database)
    memory = Memory(database)
    project = await memory.project()
    refused = 0
    for extra in range(12):
        async with database.write() as connection:
            pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
            await connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + extra % 3}")
        before = await memory.deployments.of_project(project.id)
        try:
            made = [await memory.submit(project, note="x" * 3000)]
        except DiskFull:
            refused += 1
            made = []
        after = await memory.deployments.of_project(project.id)
        assert {each.id for each in after} == {each.id for each in [*before, *made]}
        for each in after:
            assert [e.seq for e in await memory.deployments.events(each.id)] == list(range(1, each.seq + 1))
    await database.close()

    assert refused, "the disk was never full: the test shows nothing"
    with sqlite3.connect(tmp_path / "klepaas.db") as checked:
        assert checked.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def _end(memory: Memory, deployment_id: str, release_id: str, *, proven: bool) -> None:
    deployment = await memory.deployments.get(deployment_id)
    assert deployment is not None
    if not proven:
        await memory.queue.advance(deployment, "node", deployment.end_abandoned())
        return
    release = await memory.releases.get(release_id)
    assert release is not None
    await memory.queue.advance(
        deployment,
        "node",
        [
            TrafficShiftDecided(release_id=release_id, previous_release_id=None, previous_deployment_id=None),
            TrafficShifted(release_id=release_id, evidence={}),
            DeploymentSucceeded(release_id=release_id, image_digest=release.image_digest, evidence={}),
        ],
    )

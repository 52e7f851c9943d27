"""What is known of the chains of projects, on both databases."""

import asyncio

import pytest

from klepaas.domain.repository import parse_repository
from klepaas.errors import Conflict
from klepaas.storage.chains import ChainTable
from tests.storage.worlds import NOW, Memory

PLAIN = {"repository": "Team-shop", "image": "team-shop"}
SUFFIXED = {"repository": "Team-shop-1a2b3c", "image": "team-shop-1a2b3c"}


async def test_ids_are_kept_as_they_become_known(memory: Memory) -> None:
    project, chains = await memory.project(), ChainTable(memory.database)
    await chains.note(project.id, {"build_project_id": 20701, "stage_id": 14501})
    await chains.note(project.id, {"pipeline_id": 2101, "git_url": "https://git.example.org/a.git"})
    known = await memory.projects.get(project.id)

    assert known is not None
    assert (known.build_project_id, known.pipeline_id, known.deploy_project_id) == ("20701", "2101", None)
    assert known.chain == {"stage_id": 14501, "git_url": "https://git.example.org/a.git"}
    assert known.updated_at == project.updated_at  # nobody's change is refused because of it


async def test_what_is_none_is_taken_away_and_all_can_be_forgotten(memory: Memory) -> None:
    project, chains = await memory.project(), ChainTable(memory.database)
    await chains.note(project.id, {"build_project_id": 1, "stage_id": 2, "scenario_id": 3})
    await chains.note(project.id, {"build_project_id": None, "stage_id": None})
    known = await memory.projects.get(project.id)
    await chains.forget(project.id)
    bare = await memory.projects.get(project.id)

    assert known is not None
    assert (known.build_project_id, known.chain) == (None, {"scenario_id": 3})
    assert bare == project


async def test_writers_of_different_facts_do_not_lose_each_others(memory: Memory) -> None:
    project, chains = await memory.project(), ChainTable(memory.database)
    await asyncio.gather(*(chains.note(project.id, {f"fact_{number}": number}) for number in range(8)))
    known = await memory.projects.get(project.id)

    assert known is not None
    assert known.chain == {f"fact_{number}": number for number in range(8)}


async def test_a_change_of_the_project_keeps_its_chain(memory: Memory) -> None:
    project, chains = await memory.project(), ChainTable(memory.database)
    await chains.note(project.id, {"build_project_id": 20701, "stage_id": 14501})
    await memory.projects.change(project, unchanged_since=project.updated_at)
    known = await memory.projects.get(project.id)

    assert known is not None
    assert (known.build_project_id, known.chain) == ("20701", {"stage_id": 14501})


async def test_of_two_that_ask_at_once_for_the_same_names_one_gets_them(memory: Memory) -> None:
    chains = ChainTable(memory.database)
    projects = [await memory.project(name=f"shop{number}") for number in range(2)]
    given = await asyncio.gather(*(chains.claim_names(each, [PLAIN, SUFFIXED], keep={}) for each in projects))

    assert sorted(given, key=lambda names: len(names["image"])) == [PLAIN, SUFFIXED]
    assert await chains.claim_names(projects[0], [], keep={}) == given[0]


async def test_names_are_held_in_any_case_and_refused_when_none_is_left(memory: Memory) -> None:
    chains = ChainTable(memory.database)
    await chains.claim_names(await memory.project(), [PLAIN], keep={})
    shouting = {name: value.upper() for name, value in PLAIN.items()}
    with pytest.raises(Conflict, match="another project holds that name"):
        await chains.claim_names(await memory.project(), [shouting], keep={})


async def test_a_retired_project_leaves_its_names_to_its_own_owner_and_repository(memory: Memory) -> None:
    chains, owner = ChainTable(memory.database), await memory.owner()
    left = await memory.project(owner=owner)
    await chains.claim_names(left, [PLAIN], keep={})
    await memory.projects.retire(left.id, NOW)
    stranger = await memory.project()
    other = await memory.project(owner=owner, name="other", repository=parse_repository("else/where"))
    heir = await memory.project(owner=owner)

    for each in (stranger, other):
        with pytest.raises(Conflict):
            await chains.claim_names(each, [PLAIN], keep={})
    assert await chains.claim_names(heir, [PLAIN], keep={}) == PLAIN

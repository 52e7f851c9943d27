"""Whose key opens a repository, and who hears of what happens in it."""

import pytest

from klepaas.domain.actor import Actor, Scope
from klepaas.errors import NotAllowed
from klepaas.operations import projects
from klepaas.operations.projects import ProjectChange, Registration
from tests.workflows.conftest import here as here
from tests.workflows.world import World

SSH = ("git@example.org:acme/private.git", "ssh://git@example.org/acme/private.git")


@pytest.mark.parametrize("repository", SSH)
async def test_klepaas_own_ssh_key_is_the_operators(here: World, repository: str) -> None:
    """The key may open what another owner's project needs it for."""
    stranger = Actor(owner_id=here.actor.owner_id, scope=Scope.ADMIN, label="token of another owner")
    own = await projects.register(here.context, stranger, Registration(repository="acme/shop", target="fake"))
    with pytest.raises(NotAllowed, match="ssh"):
        await projects.register(here.context, stranger, Registration(repository=repository, name="x", target="fake"))
    with pytest.raises(NotAllowed, match="ssh"):
        await projects.configure(here.context, stranger, own.id, ProjectChange(repository=repository))

    wanted = Registration(repository=repository, name="y", target="fake")
    assert (await projects.register(here.context, here.actor, wanted)).repository.scheme == "ssh"

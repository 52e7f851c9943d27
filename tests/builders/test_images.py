"""Finding images again, and deleting our own only."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from klepaas.builders.docker import DockerBuilder
from klepaas.builders.images import ImageName
from klepaas.builders.protocol import Image
from klepaas.docker.engine import DockerEngine
from klepaas.docker.errors import EngineNotFound
from klepaas.domain.project import App
from tests.builders.checkout import Lines, checkout, request_for, some_app, some_commit

pytestmark = pytest.mark.docker


class Shop:
    """An app whose every build is another image."""

    def __init__(self, builder: DockerBuilder, app: App, base: str, folder: Path) -> None:
        self.builder, self.app, self.base, self.folder = builder, app, base, folder

    async def build(self, commit_sha: str = "", *, app: App | None = None, dockerfile: str | None = None) -> Image:
        text = f"FROM {self.base}\nLABEL made={secrets.token_hex(8)}\n"
        source = checkout(self.folder, {"Dockerfile": text, "web.Dockerfile": text})
        request = request_for(source, app or self.app, commit_sha=commit_sha, dockerfile=dockerfile)
        return await self.builder.build(request, Lines().add)

    async def exists(self, image: Image) -> bool:
        return await self.builder.inspect(image.digest) is not None


@pytest.fixture
def shop(builder: DockerBuilder, app: App, base: str, tmp_path: Path) -> Shop:
    return Shop(builder, app, base, tmp_path)


@pytest.fixture
async def foreign(engine: DockerEngine, base: str) -> AsyncIterator[str]:
    """A name that is not ours for an image that somebody else made; what has the name is removed afterwards."""
    name = f"klepaas-test/foreign-{secrets.token_hex(4)}"
    yield name
    for tag in ("latest", "other"):
        try:
            await engine.remove_image(f"{name}:{tag}")
        except EngineNotFound:
            continue


async def test_an_image_is_found_by_its_commit_and_settings(shop: Shop) -> None:
    commit = some_commit()
    usual = await shop.build(commit)
    other = await shop.build(commit, dockerfile="web.Dockerfile")
    builder, app = shop.builder, shop.app

    assert await builder.find(app, commit, dockerfile=None, context=None) == usual
    assert await builder.find(app, commit, dockerfile="web.Dockerfile", context=None) == other
    assert await builder.find(app, commit, dockerfile=None, context="web") is None
    assert await builder.find(app, some_commit(), dockerfile=None, context=None) is None
    assert await builder.find(some_app(), commit, dockerfile=None, context=None) is None
    assert await builder.inspect("sha256:" + "0" * 64) is None


async def test_another_klepaas_on_the_same_engine_does_not_find_our_image(shop: Shop, engine: DockerEngine) -> None:
    commit = some_commit()
    await shop.build(commit)
    other = DockerBuilder(engine, instance="another")

    assert await other.find(shop.app, commit, dockerfile=None, context=None) is None


async def test_a_tag_that_was_moved_is_not_believed(shop: Shop, engine: DockerEngine) -> None:
    """R-08"""
    commit = some_commit()
    image = await shop.build(commit)
    await engine.tag(shop.base, repository=f"klepaas/{shop.app.name}", tag=commit)
    found = await shop.builder.find(shop.app, commit, dockerfile=None, context=None)
    await engine.remove_image(image.ref)

    assert found is None
    assert await shop.exists(image)


async def test_collecting_keeps_what_is_kept_and_deletes_the_rest(shop: Shop) -> None:
    """R-09"""
    commit = some_commit()
    nameless = await shop.build(commit)  # The next build of the commit takes its tag.
    old, kept, settings = await shop.build(commit), await shop.build(), await shop.build(dockerfile="web.Dockerfile")

    deleted = await shop.builder.collect(shop.app, [kept.digest])

    assert sorted(deleted) == sorted([nameless.digest, old.digest, settings.digest])
    assert [await shop.exists(image) for image in (nameless, old, kept, settings)] == [False, False, True, False]
    assert await shop.builder.collect(shop.app, [kept.digest]) == []


async def test_collecting_never_touches_what_is_somebody_elses(shop: Shop, engine: DockerEngine, foreign: str) -> None:
    """R-09: no label of ours, another klepaas, another app, or a name that somebody gave."""
    await engine.tag(shop.base, repository=foreign, tag="latest")
    other, commit = some_app(), some_commit()
    nameless_of_other = await shop.build(commit, app=other)
    other_app = await shop.build(commit, app=other)
    named = await shop.build()
    await engine.tag(named.digest, repository=foreign, tag="other")
    await engine.remove_image(named.ref)
    another = DockerBuilder(engine, instance="another")
    ours = await shop.build()

    assert await another.collect(shop.app, []) == []
    assert await shop.builder.collect(shop.app, []) == [ours.digest]
    assert await shop.exists(other_app)
    assert await shop.exists(nameless_of_other)
    assert await shop.exists(named)
    assert await engine.inspect_image(f"{foreign}:latest")
    assert await engine.inspect_image(shop.base)


@pytest.mark.parametrize("running", [False, True])
async def test_collecting_leaves_an_image_that_a_container_uses(
    shop: Shop, engine: DockerEngine, instance_id: str, running: bool
) -> None:
    """R-09"""
    used, unused = await shop.build(), await shop.build()
    body = {"Image": used.digest, "Cmd": ["sleep", "603"], "Labels": {"klepaas.instance": instance_id}}
    container = await engine.create(f"klepaas-test-{instance_id}", body)
    if running:
        await engine.start(container)

    assert await shop.builder.collect(shop.app, []) == [unused.digest]
    assert await shop.exists(used)
    await engine.remove(container, force=True)
    assert await shop.builder.collect(shop.app, []) == [used.digest]


def test_names_of_different_builds_differ() -> None:
    app = some_app()
    settings = [(None, None), ("a", None), (None, "a"), ("a", "a"), ("a/b", "a"), ("a", "b/a"), ('a", "b', None)]
    names = [
        ImageName(instance="i", app=app, commit_sha="c" * 40, dockerfile=dockerfile, context=context)
        for dockerfile, context in settings
    ]

    assert len({name.ref for name in names}) == len(settings)
    assert names[0].ref == f"klepaas/{app.name}:{'c' * 40}"

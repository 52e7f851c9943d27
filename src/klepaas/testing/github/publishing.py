"""Making and publishing releases: the tag, the record, the webhooks."""

from klepaas.testing.github.pushes import change_ref
from klepaas.testing.github.releases import Release
from klepaas.testing.github.repository import Repository
from klepaas.testing.github.shapes import Account
from klepaas.testing.github.world import World


async def create_release(
    world: World,
    repository: Repository,
    tag: str,
    *,
    target: str = "",
    name: str | None = None,
    body: str | None = None,
    draft: bool = False,
    prerelease: bool = False,
    by: Account,
) -> Release:
    """A draft makes no tag and is only said to be `created`. Errors: LookupError when `target` is no commit."""
    made = Release(
        id=world.next_id("release"),
        tag=tag,
        target=target or repository.default_branch,
        name=name,
        body=body,
        draft=True,
        prerelease=prerelease,
        author=by,
        created_at=world.now(),
        published_at=None,
    )
    if not draft:
        await _make_tag(world, repository, made, by=by)
        made.draft, made.published_at = False, world.now()
    repository.releases[made.id] = made
    _tell(world, repository, made, "created", by)
    if not draft:
        _tell_published(world, repository, made, by)
    return made


async def publish(world: World, repository: Repository, release: Release, *, by: Account) -> None:
    """Publish a draft. Errors: LookupError when its target is no commit."""
    await _make_tag(world, repository, release, by=by)
    release.draft, release.published_at = False, world.now()
    _tell_published(world, repository, release, by)


async def _make_tag(world: World, repository: Repository, release: Release, *, by: Account) -> None:
    ref = f"refs/tags/{release.tag}"
    async with repository.writing:
        if ref in repository.git.refs:
            return
        sha = await repository.git.resolve(release.target)
        if sha is None:
            raise LookupError(release.target)
        await change_ref(world, repository, ref, sha, by=by)


def _tell_published(world: World, repository: Repository, release: Release, by: Account) -> None:
    for action in ("published", "prereleased" if release.prerelease else "released"):
        _tell(world, repository, release, action, by)


def _tell(world: World, repository: Repository, release: Release, action: str, by: Account) -> None:
    facts = release.json(repository.api(world.links), repository.web(world.links), world.links)
    world.tell("release", repository, {"release": facts}, sender=by, action=action)

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
    """A draft makes no tag and is told nobody. Errors: LookupError when `target` is no commit."""
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
        await publish(world, repository, made, by=by)
    repository.releases[made.id] = made
    return made


async def publish(world: World, repository: Repository, release: Release, *, by: Account) -> None:
    ref = f"refs/tags/{release.tag}"
    if ref not in repository.git.refs:
        sha = await repository.git.resolve(release.target)
        if sha is None:
            raise LookupError(release.target)
        await change_ref(world, repository, ref, sha, by=by)
    release.draft, release.published_at = False, world.now()
    last = "prereleased" if release.prerelease else "released"
    for action in ("created", "published", last):
        facts = release.json(repository.api(world.links), repository.web(world.links), world.links)
        world.tell("release", repository, {"release": facts}, sender=by, action=action)

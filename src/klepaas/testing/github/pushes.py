"""What follows when a ref changes, whoever changed it: the `push` webhook, and what it means for pull requests."""

from collections.abc import Mapping, Sequence

from klepaas.testing.github.commits import payload_commit
from klepaas.testing.github.pull_requests import PullRequest
from klepaas.testing.github.repository import Repository
from klepaas.testing.github.shapes import Account, Json
from klepaas.testing.github.world import World

ZEROS = "0" * 40

MOST_COMMITS = 2048
"""A push payload lists no more. Source: GitHub's page on the event `push`."""

MOST_TAGS = 3
"""More tags than this pushed at once cause no webhooks. Source: as above."""


async def change_ref(
    world: World, repository: Repository, ref: str, sha: str | None, *, by: Account, quiet: bool = False
) -> None:
    """Point a ref somewhere (None: remove it), and all that follows."""
    before = repository.git.refs.get(ref)
    if before == sha:
        return
    await repository.git.set_ref(ref, sha)
    await ref_changed(world, repository, ref, before, sha, by=by, quiet=quiet)


async def refs_changed(world: World, repository: Repository, before: Mapping[str, str], *, by: Account) -> None:
    """Find out what a git push did, against the refs `before` it, and all that follows."""
    await repository.git.reload()
    after = repository.git.refs
    changed = sorted(ref for ref in before.keys() | after.keys() if before.get(ref) != after.get(ref))
    tags = [ref for ref in changed if ref.startswith("refs/tags/")]
    for ref in changed:
        quiet = ref in tags and len(tags) > MOST_TAGS
        await ref_changed(world, repository, ref, before.get(ref), after.get(ref), by=by, quiet=quiet)


async def ref_changed(
    world: World,
    repository: Repository,
    ref: str,
    before: str | None,
    after: str | None,
    *,
    by: Account,
    quiet: bool = False,
) -> None:
    """Tell everybody of a ref that is changed already."""
    repository.pushed_at = world.now()
    if not quiet:
        world.tell("push", repository, await _payload(world, repository, ref, before, after, by), sender=by)
    if ref.startswith("refs/heads/"):
        await _follow_pulls(world, repository, ref.removeprefix("refs/heads/"), after, by)


async def _payload(
    world: World, repository: Repository, ref: str, before: str | None, after: str | None, by: Account
) -> Json:
    git, name, links = repository.git, repository.full_name, world.links
    target = await git.resolve(after) if after else None
    commits = await _commits(repository, ref, before, target)
    forced = bool(before and target and ref.startswith("refs/heads/")) and not await git.is_ancestor(
        str(before), str(target)
    )
    old, new = before or ZEROS, after or ZEROS
    web = repository.web(links)
    if before and after:
        compare = f"{web}/compare/{old[:12]}...{new[:12]}"
    else:
        compare = (
            f"{web}/compare/{ref.partition('/')[2].partition('/')[2]}"
            if after
            else f"{web}/compare/{old[:12]}...{new[:12]}"
        )
    facts = repository.json(links)
    # In this payload, unlike everywhere else, two of the times are numbers.
    facts |= {"created_at": int(repository.created_at.timestamp()), "pushed_at": int(repository.pushed_at.timestamp())}
    facts |= {"stargazers": 0, "master_branch": repository.default_branch}
    facts["owner"] = {**facts["owner"], "name": repository.owner.login, "email": None}
    return {
        "ref": ref,
        "before": old,
        "after": new,
        "repository": facts,
        "pusher": {"name": by.login, "email": by.email},
        "created": before is None,
        "deleted": after is None,
        "forced": forced,
        "base_ref": None,
        "compare": compare,
        "commits": [await payload_commit(git, sha, name, links) for sha in commits],
        "head_commit": await payload_commit(git, target, name, links) if target else None,
    }


async def _commits(repository: Repository, ref: str, before: str | None, target: str | None) -> Sequence[str]:
    if target is None or not ref.startswith("refs/heads/"):
        return []
    git = repository.git
    others = [sha for name, sha in git.refs.items() if name.startswith("refs/heads/") and name != ref]
    return (await git.new_commits(target, without=[before] if before else others))[-MOST_COMMITS:]


async def _follow_pulls(world: World, repository: Repository, branch: str, after: str | None, by: Account) -> None:
    for pull in [pull for pull in repository.pulls.values() if pull.state == "open"]:
        if pull.head == branch:
            await _head_moved(world, repository, pull, after, by)
        elif pull.base == branch and after is not None and await repository.git.is_ancestor(pull.head_sha, after):
            # Somebody merged it by hand and pushed the result: GitHub calls it merged, too.
            await mark_merged(world, repository, pull, after, by=by)


async def _head_moved(world: World, repository: Repository, pull: PullRequest, after: str | None, by: Account) -> None:
    if after is None:
        pull.state, pull.closed_at = "closed", world.now()
        tell_pull(world, repository, pull, "closed", by)
        return
    before, pull.head_sha, pull.updated_at = pull.head_sha, after, world.now()
    base = repository.git.refs.get(f"refs/heads/{pull.base}")
    pull.commits = tuple(await repository.git.new_commits(after, without=[base] if base else []))
    tell_pull(world, repository, pull, "synchronize", by, before=before, after=after)


async def mark_merged(
    world: World, repository: Repository, pull: PullRequest, sha: str, *, by: Account, landed: Sequence[str] = ()
) -> None:
    """Record that it is merged as `sha`. No ref is changed."""
    pull.state, pull.merged_by, pull.merge_commit_sha, pull.landed = "closed", by, sha, tuple(landed)
    pull.merged_at = pull.closed_at = pull.updated_at = world.now()
    tell_pull(world, repository, pull, "closed", by)


def tell_pull(world: World, repository: Repository, pull: PullRequest, action: str, by: Account, **more: str) -> None:
    facts = pull.json(repository.json(world.links), repository.owner, world.links, whole=True)
    payload = {"number": pull.number, "pull_request": facts, **more}
    world.tell("pull_request", repository, payload, sender=by, action=action)

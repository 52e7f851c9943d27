"""Opening and merging pull requests, by real git."""

from typing import Literal

from klepaas.testing.git.objects import Person
from klepaas.testing.git.repository import CannotMerge
from klepaas.testing.github.pull_requests import PullRequest
from klepaas.testing.github.pushes import change_ref, mark_merged, tell_pull
from klepaas.testing.github.repository import Repository
from klepaas.testing.github.shapes import Account
from klepaas.testing.github.world import World

How = Literal["merge", "squash", "rebase"]


def person(account: Account) -> Person:
    return Person(account.login, account.email)


async def open_pull(
    world: World, repository: Repository, *, head: str, base: str, title: str, body: str | None, by: Account
) -> PullRequest:
    """Errors: LookupError when a branch is missing; CannotMerge when there is nothing to merge."""
    git = repository.git
    head_sha, base_sha = git.refs.get(f"refs/heads/{head}"), git.refs.get(f"refs/heads/{base}")
    if head_sha is None or base_sha is None:
        raise LookupError("head" if head_sha is None else "base")
    commits = await git.new_commits(head_sha, without=[base_sha])
    if not commits:
        raise CannotMerge(f"No commits between {base} and {head}")
    repository.last_number += 1
    pull = PullRequest(
        id=world.next_id("pull"),
        number=repository.last_number,
        title=title,
        body=body,
        author=by,
        head=head,
        head_sha=head_sha,
        base=base,
        base_sha=base_sha,
        created_at=world.now(),
        updated_at=world.now(),
        commits=tuple(commits),
    )
    repository.pulls[pull.number] = pull
    tell_pull(world, repository, pull, "opened", by)
    return pull


async def merge(
    world: World,
    repository: Repository,
    pull: PullRequest,
    how: How,
    *,
    by: Account,
    title: str = "",
    message: str | None = None,
    quiet: bool = False,
) -> str:
    """Merge it as GitHub's button does and return the SHA the base branch has then. Errors: CannotMerge."""
    async with repository.writing:
        base = repository.git.refs[f"refs/heads/{pull.base}"]
        pull.base_sha = base
        sha = await _merged(world, repository, pull, how, base, by, title, message)
        landed = await repository.git.new_commits(sha, without=[base])
        # First the pull request, so that whoever asks for it upon the push finds it merged.
        await mark_merged(world, repository, pull, sha, by=by, landed=landed)
        await change_ref(world, repository, f"refs/heads/{pull.base}", sha, by=by, quiet=quiet)
    return sha


async def _merged(
    world: World,
    repository: Repository,
    pull: PullRequest,
    how: How,
    base: str,
    by: Account,
    title: str,
    message: str | None,
) -> str:
    git, at = repository.git, world.now()
    if how == "rebase":
        return await git.rebase(base, pull.head_sha, at=at)
    if how == "squash":
        messages = [(await git.commit(sha)).message for sha in pull.commits]
        first, _, rest = messages[0].partition("\n")
        many = len(messages) > 1
        title = title or f"{pull.title if many else first} (#{pull.number})"
        default = "\n\n".join(f"* {words}" for words in messages) if many else rest.strip()
        message = default if message is None else message
        parents = [base]
    else:
        title = title or f"Merge pull request #{pull.number} from {repository.owner.login}/{pull.head}"
        message = pull.title if message is None else message
        parents = [base, pull.head_sha]
    whole = f"{title}\n\n{message}" if message else title
    made = await git.merge(base, pull.head_sha, parents=parents, message=whole, author=person(by), at=at)
    return made.sha

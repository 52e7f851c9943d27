"""How a pushed commit lies to those asked for before: by GitHub's word, or while it is away by what pushes said."""

from collections.abc import Collection
from dataclasses import dataclass, field

from klepaas.domain import push_rules
from klepaas.domain.github import Lineage, Push, RepositoryName
from klepaas.domain.path_filter import any_counts
from klepaas.operations.context import Context
from klepaas.operations.questions import Questions


@dataclass(frozen=True)
class Answer:
    is_so: bool
    is_certain: bool = True


@dataclass(frozen=True)
class Newer:
    """A commit that comes after the pushed one, if any; `in_doubt` is one that may, as nobody can say now."""

    sha: str | None
    in_doubt: str | None = None


@dataclass
class LineOfCommits:
    context: Context
    push: Push
    questions: Questions
    _touched: dict[tuple[tuple[str, ...], str], Answer] = field(default_factory=dict)

    async def newer(self, bases: Collection[str], *, is_new: bool) -> Newer:
        """What comes after the pushed commit: the branch's head when the branch holds the commit no more, or one that
        was asked for already. Nothing when the commit is to be deployed. `is_new`: it never was asked for."""
        sha, push = self.push.after, self.push
        if not bases:
            return Newer(None)
        now = await self.questions.head(push.branch or "")
        if now is not None and now.sha == sha:
            return Newer(None)
        if now is not None and (not is_new or not await self._is_part_of(now.sha)):
            return Newer(now.sha)
        in_doubt = None
        for base in sorted(bases):
            answer = await self._is_newer(base, is_head_known=now is not None, is_new=is_new)
            if answer.is_so:
                return Newer(base)
            in_doubt = in_doubt if answer.is_certain else base
        return Newer(None, in_doubt)

    async def _is_part_of(self, head: str) -> bool:
        """Whether the branch still holds the pushed commit. In doubt it does."""
        compared = await self.questions.compare(self.push.after, head)
        return compared is None or compared.lineage is Lineage.AHEAD

    async def _is_newer(self, base: str, *, is_head_known: bool, is_new: bool) -> Answer:
        compared = await self.questions.compare(base, self.push.after)
        if compared is not None and compared.lineage in {Lineage.AHEAD, Lineage.IDENTICAL}:
            return Answer(False)
        if compared is not None and (compared.lineage is Lineage.BEHIND or is_head_known):
            # Diverged: somebody rewrote the branch. Only its head counts, and this commit is not the head.
            return Answer(is_head_known or not self.push.forced)
        if is_head_known and not self.questions.is_away:
            return Answer(True)  # one of the two is gone from GitHub
        moves = await self.context.branches.moves(repository_key(self.push.repository), self.push.ref)
        went_on = push_rules.happened_before(self.push.after, base, moves)
        came_from = push_rules.happened_before(base, self.push.after, moves)
        if not is_new and not came_from:
            return Answer(True)  # told again, and nothing says that the branch came back to it
        # A branch that went to and fro: a commit that comes back is left to the watcher, which sees where it ended.
        is_known = went_on or came_from or not self.questions.may_be_answered_later
        return Answer(went_on and not (came_from and is_new), is_certain=is_known)

    async def touches(self, patterns: tuple[str, ...], base: str) -> Answer:
        """Whether a file that counts differs between the base and the pushed commit."""
        if (patterns, base) not in self._touched:
            self._touched[patterns, base] = await self._touches(patterns, base)
        return self._touched[patterns, base]

    async def _touches(self, patterns: tuple[str, ...], base: str) -> Answer:
        paths = await self._changed(base)
        if paths is None and self.questions.is_away and self.push.paths is not None:
            return Answer(any_counts(patterns, self.push.paths), is_certain=False)
        return Answer(paths is None or any_counts(patterns, paths))

    async def _changed(self, base: str) -> Collection[str] | None:
        there = await self.questions.compare(base, self.push.after)
        if there is None or there.paths is None or there.lineage is Lineage.AHEAD:
            return None if there is None else there.paths
        # GitHub compares with the common ancestor: what the base has beyond it goes away as well.
        back = await self.questions.compare(self.push.after, base)
        return None if back is None or back.paths is None else {*there.paths, *back.paths}


def repository_key(repository: RepositoryName) -> str:
    """By what the moves of its refs are remembered."""
    return str(repository.repository_id or repository.full_name.lower())

"""One repository of an older system on its way into our history: told twins apart, asked who saw it, settled."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from klepaas.domain.imported import Imported, id_of
from klepaas.domain.old_findings import Finding, Problem, findings_of, twins
from klepaas.domain.old_row import OldRow
from klepaas.domain.project import Project
from klepaas.domain.settlement import BEFORE, Outcome, PastSeen, Settlement, own_runs, settle
from klepaas.errors import Invalid, Outside
from klepaas.operations.context import Context

RUNS_WITHIN_S, IMAGES_WITHIN_S = 30.0, 15.0
"""Of one repository; callers wait for their answer for a minute. A run that was not asked about in time leaves its row
unknown until the next import; an image decides nothing."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """What became, or with a dry run would become, of one row. `is_new` when klepaas did not have it yet, `is_settled`
    when it had it as unknown and now knows how it ended, `is_changed` when its text there is another one by now."""

    imported: Imported
    is_new: bool = False
    is_settled: bool = False
    is_changed: bool = False


@dataclass(frozen=True)
class OldRepository:
    """The rows of one repository on their way into our history."""

    context: Context
    owner_id: str
    source: str
    integrations: Sequence[Mapping[str, Any]]
    """Rows of `user_project_integrations`."""
    rows: Sequence[OldRow]
    now: datetime

    async def lines(self) -> list[Line]:
        known = await self.context.past.imported.known([row.key for row in self.rows])
        twin_of = twins(self.rows)
        firsts = [row for row in self.rows if row.old_id not in twin_of]
        # Neighbours whose end is known are still neighbours: they stay in `firsts`, and are not asked about again.
        open_rows = [row for row in firsts if row.key not in known or known[row.key].outcome is Outcome.UNKNOWN]
        seen = await self._seen(firsts, open_rows)
        twins_of = {
            first.old_id: [row for row in self.rows if twin_of.get(row.old_id) == first.old_id] for first in firsts
        }
        settled = {
            **settle(firsts, seen, self.now, twins=twins_of),
            **{row.old_id: _known(known[row.key]) for row in firsts if row.key in known and row not in open_rows},
        }
        ids = await self._ids(twin_of)
        return [self._line(row, known, settled, seen, twin_of, ids) for row in self.rows]

    async def _ids(self, twin_of: Mapping[str, str]) -> Mapping[str, str]:
        """Old id → id here, of these rows and of those that a rollback among them undid in an earlier import."""
        ids = {row.old_id: id_of(row.key) for row in self.rows}
        missing = {row.rollback_from for row in self.rows if row.rollback_from and row.rollback_from not in ids}
        imported = self.context.past.imported
        earlier = await imported.by_old_id(self.owner_id, self.rows[0].repository, missing) if missing else {}
        return {**earlier, **{old_id: ids[twin_of.get(old_id, old_id)] for old_id in ids}}

    async def _seen(self, firsts: Sequence[OldRow], open_rows: Sequence[OldRow]) -> PastSeen:
        if not open_rows:
            return PastSeen()
        try:
            async with asyncio.timeout(RUNS_WITHIN_S):
                seen = await self._runs(firsts, open_rows)
        except Outside as away:
            seen = PastSeen(trouble=f"{away.message} {away.hint}".strip())
        except TimeoutError:
            seen = PastSeen(trouble="Naver Cloud did not answer everything in time; import again to ask the rest.")
        return replace(seen, digests=await self._digests(open_rows))

    async def _runs(self, firsts: Sequence[OldRow], open_rows: Sequence[OldRow]) -> PastSeen:
        build, deploy = await self._provider_ids()
        if deploy is None:
            return PastSeen(trouble="The older system did not record which SourceDeploy project deployed it.")
        provider = self.context.past.provider
        began = [row.began_at for row in open_rows if row.began_at is not None]
        runs = await provider.runs(
            build_project_id=build, deploy_project_id=deploy, since=min(began) - BEFORE if began else None
        )
        own, wanted = own_runs(firsts, runs.deploys), {row.old_id for row in open_rows}
        ends = {
            run.id: await provider.ended_at(deploy, run)
            for old_id, run in own.items()
            if old_id in wanted and run.outcome is not None and run.ended_at is None
        }
        deploys = [replace(run, ended_at=ends.get(run.id, run.ended_at)) for run in runs.deploys]
        return PastSeen(deploys=deploys, builds=runs.builds)

    async def _provider_ids(self) -> tuple[str | None, str | None]:
        """Of the older system's record; what it left out, of our own project of the same repository."""
        own = await self.context.projects.list(self.owner_id)
        here = [each for each in own if is_of(each, self.rows[0].repository)]
        builds = [
            *_recorded(self.integrations, self.rows[0], "build_project_id"),
            *(each.build_project_id for each in here),
        ]
        deploys = [
            *_recorded(self.integrations, self.rows[0], "deploy_project_id"),
            *(each.deploy_project_id for each in here),
        ]
        return next(filter(None, builds), None), next(filter(None, deploys), None)

    async def _digests(self, rows: Sequence[OldRow]) -> Mapping[str, str | None]:
        """Of the images the registry answers about. What it cannot be asked is not in it, and decides nothing."""
        found: dict[str, str | None] = {}
        with suppress(Outside, TimeoutError):
            async with asyncio.timeout(IMAGES_WITHIN_S):
                for image in dict.fromkeys(row.image_name for row in rows if row.image_name):
                    with suppress(Invalid):  # of another registry, or no name of an image
                        found[image] = await self.context.past.provider.digest(image)
        return found

    def _line(
        self,
        row: OldRow,
        known: Mapping[str, Imported],
        settled: Mapping[str, Settlement],
        seen: PastSeen,
        twin_of: Mapping[str, str],
        ids: Mapping[str, str],
    ) -> Line:
        earlier, first = known.get(row.key), twin_of.get(row.old_id)
        if earlier is not None and earlier.outcome is not Outcome.UNKNOWN:
            return Line(imported=earlier)
        made = _imported(row, settled[first or row.old_id], seen, self)
        made = replace(
            made,
            twin_of=ids[first] if first else None,
            rollback_from=ids.get(row.rollback_from) if row.rollback_from else None,
            findings=(*_twin(first), *made.findings),
        )
        if earlier is None:
            return Line(imported=made, is_new=True)
        again = _again(earlier, made)
        return Line(
            imported=again,
            is_settled=made.outcome is not Outcome.UNKNOWN,
            is_changed=len(again.originals) > len(earlier.originals),
        )


def _known(imported: Imported) -> Settlement:
    """As it was settled by an earlier import: for a twin that came later."""
    return Settlement(
        outcome=imported.outcome,
        by=imported.settled_by,
        reason=imported.reason,
        started_at=imported.started_at,
        completed_at=imported.completed_at,
        deployed_at=imported.deployed_at,
    )


def _again(earlier: Imported, made: Imported) -> Imported:
    """What was unknown at an earlier import, with what is known now; its text of then is kept, too."""
    changed = dict(made.originals[0]) != dict(earlier.originals[-1])
    return replace(
        made,
        number=earlier.number,
        source=earlier.source,
        imported_at=earlier.imported_at,
        rollback_from=made.rollback_from or earlier.rollback_from,
        originals=(*earlier.originals, *(made.originals if changed else ())),
    )


def is_of(project: Project, repository: str) -> bool:
    """`repository` is `owner/repo` in lower case."""
    named = project.repository.owner_and_name
    return named is not None and "/".join(named).lower() == repository


def _recorded(integrations: Sequence[Mapping[str, Any]], row: OldRow, column: str) -> list[str]:
    return [
        str(each[column]).strip()
        for each in integrations
        if f"{each.get('github_owner')}/{each.get('github_repo')}".lower() == row.repository and each.get(column)
    ]


def _twin(first: str | None) -> list[Finding]:
    if first is None:
        return []
    return [Finding(problem=Problem.DUPLICATE, text=f"Row {first} tells of the same deployment.")]


def _imported(row: OldRow, settled: Settlement, seen: PastSeen, of: OldRepository) -> Imported:
    run, image = settled.run, row.image_name
    evidence: dict[str, Any] = {"reason": settled.reason, "settled_by": settled.by.value}
    if run is not None:
        times = {"began_at": run.began_at, "ended_at": run.ended_at}
        told = {name: time.isoformat().replace("+00:00", "Z") for name, time in times.items() if time is not None}
        evidence["run"] = {"run": run.what, "word": run.word, **told}
    if image is not None and image in seen.digests:
        evidence["image"] = {
            "image_ref": image,
            "digest": seen.digests[image],
            "in_registry": bool(seen.digests[image]),
        }
    return Imported(
        id=id_of(row.key),
        key=row.key,
        owner_id=of.owner_id,
        source=of.source[:255],
        old_id=row.old_id,
        github_owner=row.owner,
        github_repo=row.repo,
        commit_sha=row.commit_sha,
        commit_message=row.commit_message,
        environment=row.environment,
        outcome=settled.outcome,
        settled_by=settled.by,
        reason=settled.reason,
        image_ref=image,
        image_digest=seen.digests.get(image) if image else None,
        is_rollback=row.is_rollback,
        created_at=row.created_at,
        started_at=settled.started_at,
        deployed_at=settled.deployed_at,
        completed_at=settled.completed_at,
        error_message=row.error_message,
        imported_at=of.now,
        asked_at=of.now,
        originals=(dict(row.original),),
        findings=tuple(findings_of(row, of.now)),
        evidence=evidence,
    )

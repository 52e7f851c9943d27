"""What a published release means for the projects of its repository that releases deploy."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from klepaas.domain import push_rules
from klepaas.domain.github import Checks, Lineage, PublishedRelease
from klepaas.domain.project import Project
from klepaas.domain.push_rules import verdict
from klepaas.domain.verdict import Outcome, Verdict
from klepaas.errors import BranchNotFound, Unavailable
from klepaas.operations import deployments
from klepaas.operations.automatic import (
    OUR_CONTEXTS,
    PATIENCE,
    TOO_MANY,
    TRIES,
    repeated,
    request_key,
    rollback_in_effect,
    standings,
    started,
    ways_to_ask,
)
from klepaas.operations.context import Context
from klepaas.operations.deployments import DeploymentRequest
from klepaas.operations.ports.deployments import Overtaken, Standing
from klepaas.operations.questions import Questions


@dataclass
class ReleaseDecision:
    context: Context
    release: PublishedRelease
    delivery_id: str

    async def decide(self, wanted: Sequence[Project]) -> Sequence[Verdict]:
        place = push_rules.RELEASE_ENVIRONMENT
        self.questions = Questions(
            self.context.github, await ways_to_ask(self.context, self.release.repository, wanted), PATIENCE
        )
        try:
            sha = await self.questions.tag(self.release.tag)
        except BranchNotFound:
            return [verdict(project, place, Outcome.IGNORED, "no_such_tag") for project in wanted]
        if sha is None:
            raise Unavailable(
                f"GitHub cannot be asked now which commit the tag {self.release.tag[:80]!r} names.",
                retry_after=timedelta(seconds=30),
            )
        found = await standings(self.context, [f"{project.id}/{place}" for project in wanted])
        return [await self._consider(project, sha, found[f"{project.id}/{place}"]) for project in wanted]

    async def _consider(self, project: Project, sha: str, standing: Standing) -> Verdict:
        place = push_rules.RELEASE_ENVIRONMENT
        for _ in range(TRIES):
            try:
                return await self._decide(project, sha, standing)
            except Overtaken:
                key = f"{project.id}/{place}"
                standing = (await standings(self.context, [key]))[key]
        return verdict(project, place, Outcome.WAITING, TOO_MANY)

    async def _decide(self, project: Project, sha: str, standing: Standing) -> Verdict:
        place, newest = push_rules.RELEASE_ENVIRONMENT, standing.newest
        if newest is not None and newest.commit_sha == sha:
            return repeated(project, newest)
        key = request_key(f"refs/tags/{self.release.tag}", sha, place)
        earlier = await self.context.deployments.by_request(deployments.scoped_key(project.id, key) or "")
        if earlier is not None:
            return repeated(project, earlier)
        if newest is not None and newest.commit_sha is not None:
            compared = await self.questions.compare(newest.commit_sha, sha)
            if compared is not None and compared.lineage is Lineage.BEHIND:
                return verdict(project, place, Outcome.IGNORED, f"superseded by {newest.commit_sha[:7]}")
        if project.rules.wait_for_checks:
            found = await self.questions.checks(sha, without=OUR_CONTEXTS)
            if found is Checks.FAILED:
                return verdict(project, place, Outcome.IGNORED, push_rules.CHECKS_FAILED)
            if found is not Checks.PASSED:
                return verdict(project, place, Outcome.WAITING, "waiting for the commit's checks")
        undone = rollback_in_effect(standing)
        undoes = f" Undoes the rollback {undone.id}." if undone is not None else ""
        request = DeploymentRequest(
            project=project.id,
            environment=place,
            branch=project.branch,
            commit=sha,
            request_key=key,
            trigger="release",
            note=f"Release {self.release.tag}.{undoes}",
            delivery_id=self.delivery_id or None,
            after_number=standing.last_number,
        )
        return await started(self.context, project, request)

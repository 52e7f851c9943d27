"""Telling GitHub how deployments stand: statuses of commits, deployments, and a comment on the merged pull request.

Reports follow the record, they are no part of it: each time the whole of what GitHub should show is worked out anew
and what differs from what it was told is sent. What is repeated after a lost answer finds what is there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from klepaas.domain import report
from klepaas.domain.deployment import Deployment
from klepaas.domain.github import RepositoryName
from klepaas.domain.push_rules import RELEASE_ENVIRONMENT, merged_into
from klepaas.domain.status import Status
from klepaas.errors import Rejected
from klepaas.operations.automatic import OUR_CONTEXTS, OUR_TRIGGERS
from klepaas.operations.code_host import Place
from klepaas.operations.context import Context
from klepaas.operations.places import place_of_project
from klepaas.operations.ports.reports import DueReport

NEVER_STARTED = frozenset({Status.SUPERSEDED, Status.CANCELLED})


async def tell(context: Context, due: DueReport) -> None:
    """Have GitHub show what the record says. Errors: those of `CodeHost`; what was told until then is remembered."""
    place = await place_of_project(context, due.project)
    if place is None or place.connection is None or due.deployment.commit_sha is None:
        return
    await _Telling(context, due, place, dict(due.sent)).tell()


@dataclass
class _Telling:
    context: Context
    due: DueReport
    place: Place
    sent: dict[str, Any]
    """What GitHub was told, and by which names; as it is stored."""

    async def tell(self) -> None:
        if "context" not in self.sent:
            await self._remember(**await self._names())
        speaker = report.speaker(self.due.together, self.due.live)
        refusals = []
        for part in (self._tell_deployment, self._tell_status, self._tell_pull_request):
            try:
                await part(speaker)
            except Rejected as refused:  # a missing permission for one is no reason to leave out the others
                refusals.append(refused)
        if refusals:
            raise refusals[0]

    async def _names(self) -> Mapping[str, str]:
        """Chosen once for each deployment: with the project's name only where the repository has several projects."""
        project, environment = self.due.project, self.due.deployment.environment
        repository = RepositoryName(
            owner=self.place.owner, name=self.place.name, repository_id=project.github_repository_id
        )
        others = [each for each in await self.context.projects.of_repository(repository) if each.id != project.id]
        name = f"{project.name}/{environment}" if others else environment
        return {"context": f"{OUR_CONTEXTS}{name}", "environment": name}

    async def _tell_deployment(self, _: Deployment) -> None:
        deployment, github = self.due.deployment, self.context.github
        now = report.shown(deployment, self.due.live)
        wanted = [now.state, now.description, now.environment_url]
        if self.sent.get("deployment") == wanted:
            return
        number = self.sent.get("number")
        if number is None:
            if deployment.status in NEVER_STARTED:
                return  # GitHub never heard of it
            number = await self._created(deployment)
            await self._remember(number=number)
        await github.set_deployment_status(
            self.place,
            number,
            state=now.state,
            description=now.description,
            log_url=self._log_url(deployment),
            environment_url=now.environment_url,
        )
        await self._remember(deployment=wanted)

    async def _created(self, deployment: Deployment) -> int:
        """GitHub's number. One that was made before, although its answer never came, is taken."""
        sha, environment = deployment.commit_sha or "", self.sent["environment"]
        found = await self.context.github.deployments(self.place, sha=sha, environment=environment)
        if deployment.id in found:
            return found[deployment.id]
        return await self.context.github.create_deployment(
            self.place,
            sha=sha,
            environment=environment,
            key=deployment.id,
            description=report.shortened(f"{deployment.trigger} by {deployment.actor}"),
            production=deployment.environment == RELEASE_ENVIRONMENT,
        )

    async def _tell_status(self, speaker: Deployment) -> None:
        now = report.shown(speaker, self.due.live)
        url = now.environment_url or self._log_url(speaker)
        wanted = [now.status, now.description, url]
        if self.sent.get("status") == wanted:
            return
        await self.context.github.set_status(
            self.place,
            speaker.commit_sha or "",
            context=self.sent["context"],
            state=now.status,
            description=now.description,
            url=url,
        )
        await self._remember(status=wanted)

    async def _tell_pull_request(self, speaker: Deployment) -> None:
        if speaker.status is Status.QUEUED:
            return
        number = await self._pull_request()
        if not number:
            return
        marker = f"<!-- klepaas {self.due.project.id} {speaker.environment} -->"
        text = report.comment(speaker, self.due.live, project_name=self.due.project.name, marker=marker)
        if self.sent.get("comment") == text:
            return
        await self.context.github.comment(self.place, number, marker=marker, text=text)
        await self._remember(comment=text)

    async def _pull_request(self) -> int | None:
        """The one whose merge brought the commit. A push that was decided without asking is asked about once."""
        together = self.due.together
        known = next((each.pull_request for each in together if each.pull_request is not None), None)
        if known is not None or not any(each.trigger in OUR_TRIGGERS for each in together):
            return known
        if "pull_request" not in self.sent:
            found = await self.context.github.pull_requests(self.place, self.due.deployment.commit_sha or "")
            merged = merged_into(self.due.deployment.branch, found)
            await self._remember(pull_request=None if merged is None else merged.number)
        number: int | None = self.sent["pull_request"]
        return number

    async def _remember(self, **told: Any) -> None:
        self.sent |= told
        await self.context.reports.told(self.due, self.sent)

    def _log_url(self, deployment: Deployment) -> str | None:
        url = self.context.public_url
        return None if url is None else f"{url}/api/v1/deployments/{deployment.id}/logs"

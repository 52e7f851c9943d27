"""What Naver Cloud still knows of runs that an older system started, behind `operations.past.Provider`."""

from collections.abc import Sequence
from datetime import datetime

from klepaas.domain.settlement import Outcome, PastRun
from klepaas.errors import Invalid, Rejected
from klepaas.operations.past import PastRuns
from klepaas.targets.ncp.client import NcpClient
from klepaas.targets.ncp.endpoints import Service
from klepaas.targets.ncp.image_reference import parse_reference
from klepaas.targets.ncp.reading import each_of, understood
from klepaas.targets.ncp.refusal import is_missing
from klepaas.targets.ncp.registry import Registry
from klepaas.targets.ncp.run import Run, deploy_run
from klepaas.targets.ncp.sourcebuild import SourceBuild
from klepaas.targets.ncp.sourcedeploy import PAGE, SourceDeploy
from klepaas.targets.ncp.states import RunState

MAX_PAGES = 20
"""Of a history. What is older is not looked for."""
_OUTCOMES = {
    RunState.SUCCEEDED: Outcome.SUCCEEDED,
    RunState.FAILED: Outcome.FAILED,
    RunState.CANCELLED: Outcome.FAILED,
}


class NcpPast:
    """`registry` None: none is configured."""

    def __init__(self, client: NcpClient, registry: Registry | None) -> None:
        self._client, self._registry = client, registry

    async def runs(self, *, build_project_id: str | None, deploy_project_id: str, since: datetime | None) -> PastRuns:
        deploys = await self._deploys(_number(deploy_project_id, "SourceDeploy"), since)
        builds = await self._builds(_number(build_project_id, "SourceBuild")) if build_project_id is not None else ()
        return PastRuns(
            deploys=[_past(run, "SourceDeploy run") for run in deploys],
            builds=[_past(run, "SourceBuild run") for run in builds],
        )

    async def ended_at(self, deploy_project_id: str, run: PastRun) -> datetime | None:
        found = await SourceDeploy(self._client).run(_number(deploy_project_id, "SourceDeploy"), run.id)
        return found.ended_at if found is not None else None

    async def digest(self, image_ref: str) -> str | None:
        if self._registry is None:
            raise Rejected(
                "klepaas does not know the registry at Naver Cloud.",
                hint="Set KLEPAAS_NCP_CONTAINER_REGISTRY_URL to its host, e.g. acme.kr.ncr.ntruss.com.",
            )
        named = parse_reference(image_ref)
        host, _, image = named.repository.partition("/")
        reference = named.digest or named.tag
        if host.lower() != self._registry.host or not image or reference is None:
            raise Invalid(f"{image_ref[:200]} is not in the registry {self._registry.host}.")
        found = await self._registry.find(image, reference)
        return None if found is None else found.digest

    async def _builds(self, project_id: int) -> Sequence[Run]:
        """None of a project that is gone: what was deployed is in SourceDeploy's history."""
        try:
            return await SourceBuild(self._client).runs(project_id)
        except Rejected as refused:
            if is_missing(refused):
                return ()
            raise

    async def _deploys(self, project_id: int, since: datetime | None) -> list[Run]:
        """The pages down to that time. Their order is promised nowhere: a page of older ones only ends the search."""
        found: dict[str, Run] = {}
        for page in range(1, MAX_PAGES + 1):
            part = await self._page(project_id, page)
            new = {run.id: run for run in part if run.id not in found}
            found |= new
            is_past = since is not None and all(run.began_at is not None and run.began_at < since for run in part)
            if len(part) < PAGE or not new or is_past:
                break
        return [run for run in found.values() if since is None or run.began_at is None or run.began_at >= since]

    async def _page(self, project_id: int, page: int) -> list[Run]:
        query = {"pageNo": page, "pageSize": PAGE}
        data = await self._client.get(Service.SOURCE_DEPLOY, f"/project/{project_id}/history", query=query)
        with understood(Service.SOURCE_DEPLOY):
            return each_of(data, "historyList", deploy_run)


def _past(run: Run, what: str) -> PastRun:
    return PastRun(
        id=run.id,
        what=f"{what} {run.id}",
        outcome=_OUTCOMES.get(run.state),
        word=run.word or "nothing",
        began_at=run.began_at,
        ended_at=run.ended_at,
    )


def _number(project_id: str, service: str) -> int:
    try:
        return int(project_id)
    except ValueError:
        raise Rejected(
            f"{project_id[:80]!r} is no project of {service}: those are numbers.",
            hint="Look at the older system's user_project_integrations.",
        ) from None

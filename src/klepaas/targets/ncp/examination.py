"""Whether Naver Cloud can be used as it is configured: what is missing is named, with what to do about it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from klepaas.domain.finding import Finding
from klepaas.errors import AuthenticationFailed, KlepaasError, Outside, PermissionMissing
from klepaas.settings import NcpSettings
from klepaas.targets.ncp.client import NcpClient
from klepaas.targets.ncp.clusters import configured_cluster, names_of_cluster
from klepaas.targets.ncp.endpoints import Service, warnings_of
from klepaas.targets.ncp.nks import Nks
from klepaas.targets.ncp.refusal import MAX_SKEW, skew_in_words
from klepaas.targets.ncp.registry import Registry
from klepaas.targets.ncp.sourcebuild import SourceBuild
from klepaas.targets.ncp.sourcecommit import SourceCommit
from klepaas.targets.ncp.sourcedeploy import SourceDeploy
from klepaas.targets.ncp.sourcepipeline import SourcePipeline

ANSWER_WITHIN = timedelta(seconds=3)
"""A doctor's visit is short; a service that takes longer is said to be away."""
SKEW_WORTH_A_WORD = timedelta(minutes=1)


async def examine(settings: NcpSettings) -> list[Finding]:
    """In a fixed order; nothing at all when no key is configured. Never fails itself, and never shows a secret."""
    if settings.access_key is None and settings.secret_key is None:
        return []
    if settings.access_key is None or settings.secret_key is None:
        other = "KLEPAAS_NCP_SECRET_KEY" if settings.access_key else "KLEPAAS_NCP_ACCESS_KEY"
        return [_fail("ncp keys", "only one half of the key pair is configured", f"Set {other}, too.")]
    settings = settings.model_copy(update={"answer_within": ANSWER_WITHIN, "registry_answer_within": ANSWER_WITHIN})
    client = NcpClient.of(settings)
    try:
        return await _Examination(client, settings).findings()
    finally:
        await client.close()


class _Examination:
    def __init__(self, client: NcpClient, settings: NcpSettings) -> None:
        self._client, self._settings = client, settings

    async def findings(self) -> list[Finding]:
        keys, is_known = await self._keys()
        found = [keys, self._clock(), *self._hosts(), self._git()]
        if is_known:
            looks = (("ncp rights", self._rights), ("ncp images", self._registry), ("ncp cluster", self._cluster))
            found += await asyncio.gather(*(_finding(name, look) for name, look in looks))
        return found

    async def _keys(self) -> tuple[Finding, bool]:
        """And whether it is worth while to ask for more."""
        region = self._settings.region
        try:
            await SourceCommit(self._client).repositories()
        except AuthenticationFailed as refused:
            return _fail("ncp keys", refused.message, refused.hint), False
        except PermissionMissing:
            pass  # known, and a matter of rights
        except Outside as away:
            return _fail("ncp keys", away.message, away.hint), False
        return Finding(name="ncp keys", level="ok", detail=f"Naver Cloud accepts them (region {region})"), True

    def _clock(self) -> Finding:
        skew = self._client.clock_skew
        if skew is None:
            return Finding(name="ncp clock", level="warn", detail="Naver Cloud did not say what time it is there")
        if abs(skew) < SKEW_WORTH_A_WORD:
            return Finding(name="ncp clock", level="ok", detail=f"{abs(skew.total_seconds()):.0f} s off Naver Cloud's")
        step = f"Set this machine's clock (NTP): beyond {MAX_SKEW.total_seconds() / 60:.0f} minutes nothing works."
        is_close = abs(skew) > MAX_SKEW - SKEW_WORTH_A_WORD
        return Finding(
            name="ncp clock", level="fail" if is_close else "warn", detail=skew_in_words(skew), next_step=step
        )

    def _hosts(self) -> Sequence[Finding]:
        warned = warnings_of(self._settings)
        if not warned:
            return [Finding(name="ncp hosts", level="ok", detail="those that know Kubernetes clusters")]
        return [
            Finding(name="ncp hosts", level="warn", detail=what, next_step=f"{step[:1].upper()}{step[1:]}")
            for what, _, step in (sentence.partition("; ") for sentence in warned)
        ]

    def _git(self) -> Finding:
        missing = [
            name
            for name, value in (
                ("KLEPAAS_NCP_SOURCECOMMIT_USERNAME", self._settings.sourcecommit_username),
                ("KLEPAAS_NCP_SOURCECOMMIT_PASSWORD", self._settings.sourcecommit_password),
            )
            if value is None
        ]
        if missing:
            step = (
                f"Set {' and '.join(missing)}: a sub account and the git password set for it in SourceCommit's console."
            )
            return _fail("ncp git", "no credentials to push to SourceCommit with", step)
        return Finding(name="ncp git", level="ok", detail=f"credentials of {self._settings.sourcecommit_username}")

    async def _rights(self) -> Finding:
        """To look; whether the keys may also change something shows when it is tried."""
        client = self._client
        asked: dict[Service, Callable[[], Awaitable[object]]] = {
            Service.SOURCE_COMMIT: SourceCommit(client).repositories,
            Service.SOURCE_BUILD: SourceBuild(client).projects,
            Service.SOURCE_DEPLOY: SourceDeploy(client).projects,
            Service.SOURCE_PIPELINE: SourcePipeline(client).pipelines,
            Service.NKS: Nks(client).clusters,
        }
        answers = await asyncio.gather(*(look() for look in asked.values()), return_exceptions=True)
        refused = {service: _refusal(answer) for service, answer in zip(asked, answers, strict=True)}
        missing = [service for service, answer in refused.items() if isinstance(answer, PermissionMissing)]
        away = [answer for answer in refused.values() if answer and not isinstance(answer, PermissionMissing)]
        if away:
            return _fail("ncp rights", away[0].message, away[0].hint)
        if missing == [Service.NKS]:
            return Finding(
                name="ncp rights",
                level="warn",
                detail="the keys may not look at Kubernetes clusters: roll-outs are not seen there",
                next_step=f"Give their sub account the permission for {Service.NKS} in Naver Cloud's console.",
            )
        if missing:
            names = ", ".join(missing)
            step = f"Give their sub account the permission for {names} in Naver Cloud's console."
            return _fail("ncp rights", f"the keys may not use {names}", step)
        return Finding(name="ncp rights", level="ok", detail=f"the keys may look at {', '.join(asked)}")

    async def _registry(self) -> Finding:
        registry = Registry.of(self._settings)
        try:
            await registry.check_access()
        finally:
            await registry.close()
        name = self._settings.registry_name
        seen = await SourceBuild(self._client).registries()
        if name not in seen:
            return _fail(
                "ncp images",
                f"SourceBuild sees no registry called {name}; it sees {', '.join(seen) or 'none'}",
                "Set KLEPAAS_NCP_CONTAINER_REGISTRY_NAME to one of them.",
            )
        return Finding(name="ncp images", level="ok", detail=f"{registry.host} lets the keys in")

    async def _cluster(self) -> Finding:
        wanted = configured_cluster(self._settings)
        names = await names_of_cluster(self._client, self._settings)
        number = next((one.number for one in names if one.number is not None), None)
        listed = await SourceDeploy(self._client).clusters()
        found = next((one for one in listed if one.id == number), None)
        seen = ", ".join(f"{one.name} ({one.id})" for one in listed) or "none"
        status = await self._status(wanted.uuid)
        if found is None and status is None and listed:
            detail = f"which of {seen} is {wanted.uuid} is not known: the keys may not look at {Service.NKS}"
            return Finding(name="ncp cluster", level="warn", detail=detail, next_step="Give its number instead.")
        if found is None:
            return _fail(
                "ncp cluster",
                f"SourceDeploy does not list the cluster {wanted.uuid or wanted.number}; it lists {seen}",
                "Look at KLEPAAS_NCP_NKS_CLUSTER_ID, and whether the keys may deploy there.",
            )
        if status not in {None, "", "RUNNING"}:
            return Finding(name="ncp cluster", level="warn", detail=f"{found.name} is {status}, not RUNNING")
        return Finding(name="ncp cluster", level="ok", detail=f"{found.name}, number {found.id} in SourceDeploy")

    async def _status(self, uuid: str | None) -> str | None:
        """The provider's word; None when it cannot be asked for."""
        try:
            found = await Nks(self._client).cluster(uuid) if uuid else None
        except PermissionMissing:
            return None
        return found.status if found else ""


async def _finding(name: str, look: Callable[[], Awaitable[Finding]]) -> Finding:
    try:
        return await look()
    except KlepaasError as error:
        return _fail(name, error.message, error.hint)


def _refusal(answer: object) -> KlepaasError | None:
    if isinstance(answer, BaseException) and not isinstance(answer, KlepaasError):
        raise answer
    return answer if isinstance(answer, KlepaasError) else None


def _fail(name: str, detail: str, next_step: str) -> Finding:
    return Finding(name=name, level="fail", detail=detail, next_step=next_step)

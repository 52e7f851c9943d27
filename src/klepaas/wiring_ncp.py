"""Naver Cloud's parts, for one account. Imported only where its keys are configured: an idle klepaas does without."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from klepaas.domain.connection import Credential
from klepaas.domain.repository import Repository
from klepaas.operations.past import Provider
from klepaas.settings import NcpSettings
from klepaas.targets.ncp.adapter import NcpTarget
from klepaas.targets.ncp.budget import Budgets
from klepaas.targets.ncp.builder import NcpBuilder
from klepaas.targets.ncp.chain import Chains
from klepaas.targets.ncp.client import NcpClient, keys_of
from klepaas.targets.ncp.cloud import Cloud, git_credential
from klepaas.targets.ncp.cluster_view import ClusterView
from klepaas.targets.ncp.kubernetes import Kubernetes
from klepaas.targets.ncp.mirror import Mirrors
from klepaas.targets.ncp.nks import Nks
from klepaas.targets.ncp.past import NcpPast
from klepaas.targets.ncp.registry import Registry
from klepaas.wiring_around import Around


@dataclass(frozen=True, kw_only=True)
class NcpParts:
    """`target` and `builder` are None while no registry is configured."""

    chains: Chains
    provider: Provider
    target: NcpTarget | None
    builder: NcpBuilder | None


def ncp_parts(settings: NcpSettings, around: Around, stack: AsyncExitStack) -> NcpParts:
    """One client for all of them: they share the budget of the account. Errors: Rejected without keys."""
    budgets = Budgets(settings.calls_per_minute)
    client = NcpClient.of(settings, budgets=budgets)
    stack.push_async_callback(client.close)
    chains = Chains(client, settings, around.book)
    if settings.container_registry_url is None:
        return NcpParts(chains=chains, provider=NcpPast(client, None), target=None, builder=None)
    registry = Registry.of(settings, budgets=budgets)
    stack.push_async_callback(registry.close)
    cloud = Cloud(
        settings=settings,
        client=client,
        registry=registry,
        chains=chains,
        projects=around.projects,
        runs=around.runs,
        credential=around.credential,
        now=around.now,
        reached=around.reached,
    )
    stack.push_async_callback(cloud.close)

    def of_the_mirror(place: Repository) -> Credential:
        return git_credential(settings, place)

    mirrors = Mirrors(around.mirrors, around.git, of_the_mirror, reached=around.reached)
    view = ClusterView(_kubernetes(settings, client), settings.cluster_access)
    stack.push_async_callback(view.close)
    return NcpParts(
        chains=chains,
        provider=NcpPast(client, registry),
        target=NcpTarget(cloud, mirrors, view),
        builder=NcpBuilder(cloud, mirrors),
    )


def _kubernetes(settings: NcpSettings, client: NcpClient) -> Kubernetes | None:
    """None when the cluster is known by its number only: NKS goes by the UUID."""
    uuid = settings.nks_cluster_id
    if uuid is None or uuid.isdigit():
        return None
    return Kubernetes(Nks(client), uuid, keys_of(settings), region=settings.region)

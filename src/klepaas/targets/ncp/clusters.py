"""Which cluster a stage is given: the setting names it by its UUID, the service by a number of its own."""

from klepaas.errors import Outside, Rejected
from klepaas.settings import NcpSettings
from klepaas.targets.ncp.client import NcpClient
from klepaas.targets.ncp.nks import Nks
from klepaas.targets.ncp.sourcedeploy import Cluster, SourceDeploy


async def names_of_cluster(client: NcpClient, settings: NcpSettings) -> tuple[Cluster, ...]:
    """All names of the configured cluster, the likelier one first: the guide has stages name it by number, the
    provider's client library by UUID.

    Errors: Rejected when none is configured or there is none of this UUID."""
    wanted = configured_cluster(settings)
    if wanted.uuid is None:
        return (wanted,)
    try:
        found = await Nks(client).cluster(wanted.uuid)
    except Outside as refused:
        if not isinstance(refused, Rejected):
            raise
        return (wanted,)  # the keys may deploy to it, and yet not see it
    if found is None:
        raise Rejected(
            f"Naver Cloud has no Kubernetes cluster {wanted.uuid}.",
            hint="Look at KLEPAAS_NCP_NKS_CLUSTER_ID; `klepaas doctor` lists the clusters that the keys see.",
            evidence={"cluster": wanted.uuid},
        )
    numbers = [one.id for one in await SourceDeploy(client).clusters() if one.name == found.name]
    return (Cluster(number=numbers[0]), wanted) if len(numbers) == 1 else (wanted,)


def configured_cluster(settings: NcpSettings) -> Cluster:
    """As the setting names it. Errors: Rejected when it is not set."""
    given = settings.nks_cluster_id
    if given is None:
        raise Rejected(
            "klepaas does not know the cluster at Naver Cloud to deploy to.",
            hint="Set KLEPAAS_NCP_NKS_CLUSTER_ID to its UUID (console: Kubernetes Service, clusters).",
        )
    return Cluster(number=int(given)) if given.isascii() and given.isdigit() else Cluster(uuid=given)

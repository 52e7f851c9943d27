"""The management API of NKS: clusters and their kubeconfig. No `result` around its answers."""

import base64
from typing import Any

from starlette.responses import Response

from klepaas.testing.ncp.answers import Answer, said
from klepaas.testing.ncp.routing import Asked, Routes

MISSING = 1100404
"""Made up; the real service's codes are not known."""


def routes(cluster_url: str, certificate: bytes) -> Routes:
    async def listed(asked: Asked) -> Response:
        return said({"clusters": [_facts(asked, cluster_url)]})

    async def shown(asked: Asked) -> Response:
        _refuse_others(asked)
        return said({"cluster": _facts(asked, cluster_url)})

    async def kubeconfig(asked: Asked) -> Response:
        _refuse_others(asked)
        return said({"kubeconfig": kubeconfig_text(cluster_url, certificate)})

    below = "/vnks/v2/clusters"
    return Routes(
        [
            ("GET", below, listed),
            ("GET", f"{below}/{{uuid}}", shown),
            ("GET", f"{below}/{{uuid}}/kubeconfig", kubeconfig),
        ]
    )


def kubeconfig_text(cluster_url: str, certificate: bytes) -> str:
    """Where the cluster is; who asks is left to the reader."""
    return f"""\
apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority-data: {base64.b64encode(certificate).decode()}
    server: {cluster_url}
  name: kubernetes
contexts:
- context:
    cluster: kubernetes
    user: kubernetes-admin
  name: kubernetes-admin@kubernetes
current-context: kubernetes-admin@kubernetes
preferences: {{}}
"""


def _refuse_others(asked: Asked) -> None:
    if asked.parts["uuid"] != asked.world.cluster.uuid:
        raise Answer(404, MISSING, "cluster not found", asked.parts["uuid"])


def _facts(asked: Asked, cluster_url: str) -> dict[str, Any]:
    cluster = asked.world.cluster
    return {
        "uuid": cluster.uuid,
        "name": cluster.name,
        "endpoint": cluster_url,
        "k8sVersion": "1.29.9-nks.1",
        "status": "RUNNING",
        "regionCode": cluster.region,
        "zoneCode": f"{cluster.region}-1",
        "vpcNo": 70001,
        "subnetNoList": [90001],
        "nodeCount": 2,
        "nodePool": [{"instanceNo": 60001, "name": "pool", "nodeCount": 2, "status": "RUN"}],
        "authType": "API",
        "publicNetwork": True,
        "createdAt": "2024-11-18T03:00:00Z",
    }

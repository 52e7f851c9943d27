"""Naver Cloud's Kubernetes Service: clusters, their kubeconfig and tokens for them."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from klepaas.errors import Rejected
from klepaas.targets.ncp.client import NcpClient
from klepaas.targets.ncp.endpoints import Service
from klepaas.targets.ncp.reading import each_of, understood
from klepaas.targets.ncp.refusal import is_missing
from klepaas.targets.ncp.signing import Keys, signature

SERVICE = Service.NKS


@dataclass(frozen=True, kw_only=True)
class NksCluster:
    """`status` is the provider's word; RUNNING takes deployments."""

    uuid: str
    name: str
    status: str
    endpoint: str | None
    version: str | None


class Nks:
    def __init__(self, client: NcpClient) -> None:
        self._client = client

    async def clusters(self) -> Sequence[NksCluster]:
        data = await self._client.get(SERVICE, "/clusters")
        with understood(SERVICE):
            return each_of(data, "clusters", _cluster)

    async def cluster(self, uuid: str) -> NksCluster | None:
        try:
            data = await self._client.get(SERVICE, f"/clusters/{quote(uuid, safe='')}")
        except Rejected as refused:
            if is_missing(refused):
                return None
            raise
        with understood(SERVICE):
            return _cluster(data["cluster"])

    async def kubeconfig(self, uuid: str) -> str:
        """YAML with the cluster's address and CA, and no credential: `token` is that."""
        data = await self._client.get(SERVICE, f"/clusters/{quote(uuid, safe='')}/kubeconfig")
        with understood(SERVICE):
            return str(data["kubeconfig"])


def token(uuid: str, keys: Keys, *, region: str, timestamp_ms: int) -> str:
    """A bearer token for the cluster's API. Make a new one every few minutes: how long one lasts is in no guide.

    Source: ncp-iam-authenticator, whose tokens these are, byte for byte."""
    code = region.upper()
    stage = "v1" if not code or code == "KR" or code.startswith("F") or "CS" in code else f"{code.lower()}-v1"
    path = f"/iam/{stage}/user?clusterUuid={uuid}"
    claim = {
        "timestamp": str(timestamp_ms),
        "accessKey": keys.access,
        "signature": signature("GET", path, timestamp_ms, keys),
        "path": path,
    }
    text = json.dumps(claim, separators=(",", ":"))
    return f"k8s-ncp-v1.{base64.b64encode(text.encode()).decode()}"


def _cluster(data: Any) -> NksCluster:
    return NksCluster(
        uuid=str(data["uuid"]),
        name=str(data["name"]),
        status=str(data.get("status") or ""),
        endpoint=data.get("endpoint"),
        version=data.get("k8sVersion"),
    )

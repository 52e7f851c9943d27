"""The API of one cluster of the Kubernetes Service, as far as a rollout is looked at. Reads only.

Source: Kubernetes API reference, apps/v1 and core/v1; the token is `nks.token`'s, a new one for each call."""

import asyncio
import base64
import ssl
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx

from klepaas.errors import AuthenticationFailed, NetworkTimeout, PermissionMissing, Rejected, Unavailable
from klepaas.targets.ncp.nks import Nks, token
from klepaas.targets.ncp.signing import Keys
from klepaas.targets.ncp.wire import MAX_ANSWER_BYTES, is_loopback

ANSWER_WITHIN_S = 10.0

Json = dict[str, Any]


class Kubernetes:
    """Of one cluster, by its UUID. Close it at the end."""

    def __init__(self, nks: Nks, uuid: str, keys: Keys, *, region: str, now: Callable[[], float] = time.time) -> None:
        self._nks, self._uuid, self._keys, self._region, self._now = nks, uuid, keys, region, now
        self._client: httpx.AsyncClient | None = None
        self._opening = asyncio.Lock()

    async def get(self, path: str, **query: str) -> Json | None:
        """An object, or a list of them; None when there is none. `path` begins with `/api`.

        Errors: Unavailable, AuthenticationFailed, PermissionMissing, Rejected."""
        client = await self._opened()
        bearer = token(self._uuid, self._keys, region=self._region, timestamp_ms=int(self._now() * 1000))
        try:
            answer = await client.get(path, params=query, headers={"Authorization": f"Bearer {bearer}"})
        except httpx.TimeoutException:
            raise NetworkTimeout("The cluster does not answer.", hint=_HINT) from None
        except (httpx.HTTPError, httpx.InvalidURL):
            # Not chained: the request that is part of it holds the token.
            raise Unavailable("The cluster cannot be reached.", hint=_HINT) from None
        return _read(answer)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _opened(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._client is None:
                server, authority = _place(await self._nks.kubeconfig(self._uuid))
                is_local = is_loopback(httpx.URL(server).host)
                self._client = httpx.AsyncClient(
                    base_url=server,
                    verify=ssl.create_default_context(cadata=authority),
                    timeout=ANSWER_WITHIN_S,
                    trust_env=not is_local,
                )
            return self._client


_HINT = "Look at the network between klepaas and the cluster, or set KLEPAAS_NCP_CLUSTER_ACCESS=never."


def _place(kubeconfig: str) -> tuple[str, str]:
    """Address and CA certificates (PEM). Errors: Rejected."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        cluster = YAML(typ="safe", pure=True).load(kubeconfig)["clusters"][0]["cluster"]
        server = str(cluster["server"])
        authority = base64.b64decode(cluster["certificate-authority-data"], validate=True).decode()
    except (YAMLError, KeyError, IndexError, TypeError, ValueError) as error:
        raise Rejected("The kubeconfig of the cluster cannot be understood.", hint=_HINT) from error
    if not server.startswith("https://"):
        raise Rejected("The kubeconfig names an address without TLS; the token is not sent there.", hint=_HINT)
    return server, authority


def _read(answer: httpx.Response) -> Json | None:
    if answer.status_code == 404:
        return None
    if answer.status_code == 401:
        raise AuthenticationFailed(
            "The cluster does not know the keys of klepaas.",
            hint="Give their sub account access to the cluster (ConfigMap ncp-auth, or access entries).",
        )
    if answer.status_code == 403:
        raise PermissionMissing(
            "The cluster does not let the keys of klepaas look at its workloads.",
            hint="Give their sub account a role that may read deployments and pods.",
        )
    if answer.status_code == 429 or answer.status_code >= 500:
        raise Unavailable(f"The cluster cannot answer now (HTTP {answer.status_code}).", hint="It is asked again.")
    try:
        found = answer.json() if len(answer.content) <= MAX_ANSWER_BYTES else None
    except ValueError:
        found = None
    if not answer.is_success or not isinstance(found, dict):
        raise Rejected(f"What the cluster answered cannot be understood (HTTP {answer.status_code}).", hint=_HINT)
    return found


def path_of(kind: str, namespace: str, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{quote(namespace, safe='')}/{_PLURALS[kind]}/{quote(name, safe='')}"


def pods_of(namespace: str) -> str:
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/pods"


_PLURALS = {"Deployment": "deployments", "StatefulSet": "statefulsets"}
WATCHED = frozenset(_PLURALS)
"""Kinds whose rollouts are looked at."""

"""The image registry: which image a tag names. Docker's registry API v2 with its bearer tokens.

Source: Docker "HTTP API V2" and "Token Authentication Specification". Missing is only what the registry calls
missing: an image it does not let us see is another matter."""

import asyncio
import base64
import hashlib
import json
import random
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx

from klepaas.errors import AuthenticationFailed, Invalid, KlepaasError, PermissionMissing, Rejected, Unavailable
from klepaas.settings import NcpSettings
from klepaas.targets.ncp.budget import PATIENCE_S, Budgets
from klepaas.targets.ncp.challenge import Challenge, challenges
from klepaas.targets.ncp.client import FIRST_REST_S, TRIES, keys_of
from klepaas.targets.ncp.endpoints import Service
from klepaas.targets.ncp.names import check_image
from klepaas.targets.ncp.refusal import Said, not_understood, refusal, words_of
from klepaas.targets.ncp.signing import Keys
from klepaas.targets.ncp.wire import Request, Wire, is_loopback

SERVICE = Service.REGISTRY
_ACCEPT = ", ".join(
    (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    )
)
_REFERENCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|sha256:[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAVERS = re.compile(r"(?:.+\.)?ncr\.(?:ntruss|gov-ntruss|fin-ntruss)\.com")
TOKEN_LASTS_S = 60.0
"""When the registry does not say. Source: the token specification."""
MAX_TAG_PAGES = 50


@dataclass(frozen=True, kw_only=True)
class ImageFound:
    """`digest` is `sha256:…` of the manifest, computed from what was sent."""

    reference: str
    digest: str
    media_type: str


class Registry:
    """One host. Close it at the end."""

    def __init__(
        self,
        host: str,
        keys: Keys,
        *,
        budgets: Budgets | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        answer_within_s: float = 10.0,
        auth_hosts: Collection[str] = (),
    ) -> None:
        """`host` may have a port. `auth_hosts` are further ones that may be shown the keys for a token."""
        self.host = host
        # Docker's own rule: a registry of this machine may be spoken to without TLS.
        scheme = "http" if is_loopback(httpx.URL(f"https://{host}").host) else "https"
        self._url, self._keys = httpx.URL(f"{scheme}://{host}"), keys
        self._budget = (budgets or Budgets(NcpSettings.model_fields["calls_per_minute"].default)).of(
            f"{SERVICE} {host}", keys.access
        )
        self._wire = Wire(answer_within_s=answer_within_s, transport=transport)
        self._auth_hosts = frozenset(each.lower() for each in auth_hosts)
        self._shown: dict[str, tuple[str, float]] = {}
        """Image → the Authorization that works for it, and until when (monotonic)."""

    @classmethod
    def of(
        cls, settings: NcpSettings, *, budgets: Budgets | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> "Registry":
        """Errors: Rejected when the registry or the keys are not configured."""
        if settings.container_registry_url is None:
            raise Rejected(
                "klepaas does not know the registry at Naver Cloud.",
                hint="Set KLEPAAS_NCP_CONTAINER_REGISTRY_URL to its host, e.g. acme.kr.ncr.ntruss.com.",
            )
        return cls(
            settings.container_registry_url,
            keys_of(settings),
            budgets=budgets or Budgets(settings.calls_per_minute),
            transport=transport,
            answer_within_s=settings.registry_answer_within.total_seconds(),
            auth_hosts=settings.registry_auth_hosts,
        )

    async def find(self, image: str, reference: str) -> ImageFound | None:
        """`reference` is a tag or a digest. None only when the registry says that there is no such image.

        Errors: AuthenticationFailed, PermissionMissing, Unavailable, Rejected; all with `evidence["status"]`."""
        if not _REFERENCE.fullmatch(reference):
            raise Invalid(f"{reference[:100]!r} is neither a tag nor a digest.")
        answer = await self._ask(image, f"/v2/{check_image(image)}/manifests/{reference}")
        if answer.status_code == 404:
            return None
        self._check(answer)
        digest = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
        said = answer.headers.get("docker-content-digest", digest)
        if (_DIGEST.fullmatch(reference) and reference != digest) or (_DIGEST.fullmatch(said) and said != digest):
            raise Rejected(
                f"The registry {self.host} sent something else than the image it names.",
                hint="Try again; if it stays, look at the registry and at what stands between.",
                evidence={"status": answer.status_code, "said": said[:80], "sent": digest},
            )
        return ImageFound(
            reference=self.reference(image, reference),
            digest=digest,
            media_type=answer.headers.get("content-type", "").partition(";")[0],
        )

    async def tags(self, image: str) -> Sequence[str]:
        """Empty when the registry has no such image."""
        found: list[str] = []
        path = f"/v2/{check_image(image)}/tags/list"
        for _ in range(MAX_TAG_PAGES):
            answer = await self._ask(image, path)
            if answer.status_code == 404:
                break
            self._check(answer)
            found += _tags(answer)
            further = httpx.URL(answer.links.get("next", {}).get("url", ""))
            if not further.path.endswith("/tags/list"):
                break
            path = f"/v2/{image}/tags/list?{further.query.decode('ascii', 'replace')}"
        return list(dict.fromkeys(found))

    async def check_access(self) -> None:
        """Errors: those of `find`; nothing when host and keys are right."""
        self._check(await self._ask("", "/v2/"))

    def reference(self, image: str, reference: str) -> str:
        """As a manifest names it: the registry is the host, there is no project between."""
        return f"{self.host}/{image}{'@' if reference.startswith('sha256:') else ':'}{reference}"

    async def close(self) -> None:
        await self._wire.close()

    async def _ask(self, image: str, path: str) -> httpx.Response:
        """With what it was last content with, and once more with what it asks for."""
        url = self._url.join(path)
        shown, until = self._shown.get(image, ("", 0.0))
        headers = {"Accept": _ACCEPT, **({"Authorization": shown} if time.monotonic() < until else {})}
        answer = await self._get(url, headers)
        if answer.status_code != 401:
            return answer
        self._shown.pop(image, None)
        authorization, lasts_s = await self._authorization(image, answer)
        answer = await self._get(url, {"Accept": _ACCEPT, "Authorization": authorization})
        if answer.status_code not in {401, 403}:
            self._shown[image] = (authorization, time.monotonic() + lasts_s)
        return answer

    async def _authorization(self, image: str, answer: httpx.Response) -> tuple[str, float]:
        asked = challenges(", ".join(answer.headers.get_list("www-authenticate")))
        if bearer := next((each for each in asked if each.scheme == "bearer"), None):
            return await self._token(image, bearer)
        if any(each.scheme == "basic" for each in asked):
            return self._basic(), 3600.0
        raise self._refused(answer)

    async def _token(self, image: str, bearer: Challenge) -> tuple[str, float]:
        realm = self._checked_realm(bearer.parameters.get("realm", ""))
        query = {"scope": bearer.parameters.get("scope") or (f"repository:{image}:pull" if image else "")}
        query["service"] = bearer.parameters.get("service", "")
        url = realm.copy_merge_params({key: value for key, value in query.items() if value})
        answer = await self._get(url, {"Accept": "application/json", "Authorization": self._basic()})
        self._check(answer)
        try:
            data = json.loads(answer.content)
            token = str(data.get("token") or data["access_token"])
            lasts_s = float(data.get("expires_in") or TOKEN_LASTS_S)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise not_understood(SERVICE, answer) from None
        if not re.fullmatch(r"[A-Za-z0-9._~+/=-]{1,16384}", token):
            raise not_understood(SERVICE, answer)
        return f"Bearer {token}", max(lasts_s - 10, 0)

    def _checked_realm(self, realm: str) -> httpx.URL:
        """The keys are shown to the registry's own hosts only, whatever it says."""
        try:
            url = httpx.URL(realm)
        except (httpx.InvalidURL, TypeError):
            url = httpx.URL("")
        host = url.host.lower()
        is_local = is_loopback(self._url.host) and is_loopback(host)
        is_own = host == self._url.host or host in self._auth_hosts
        is_navers = bool(_NAVERS.fullmatch(host) and _NAVERS.fullmatch(self._url.host))
        is_safe = url.scheme == "https" or (url.scheme == "http" and is_local)
        if not (is_safe and (is_local or is_own or is_navers)) or url.userinfo:
            raise Rejected(
                f"The registry {self.host} sends to {host[:255] or 'nowhere'} for a token; the keys stay here.",
                hint="If that is right, name the host in KLEPAAS_NCP_REGISTRY_AUTH_HOSTS.",
                evidence={"host": host[:255]},
            )
        return url

    def _basic(self) -> str:
        pair = f"{self._keys.access}:{self._keys.secret}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"

    async def _get(self, url: httpx.URL, headers: dict[str, str]) -> httpx.Response:
        for tries_left in reversed(range(TRIES)):
            try:
                answer = await self._once(url, headers)
                if answer.status_code >= 500:
                    raise self._refused(answer)
                return answer
            except Unavailable as away:
                if tries_left == 0 or away.retry_after is not None:
                    raise
            await asyncio.sleep(FIRST_REST_S * 2 ** (TRIES - 1 - tries_left) * random.uniform(0.5, 1.5))
        raise AssertionError("every try returns or raises")

    async def _once(self, url: httpx.URL, headers: dict[str, str]) -> httpx.Response:
        for tries_left in reversed(range(TRIES)):
            await self._budget.take(is_polling=False)
            answer = await self._wire.send(Request(SERVICE, "GET", url, headers))
            rest_s = self._budget.note(answer)
            if rest_s is None:
                return answer
            if tries_left == 0 or rest_s > PATIENCE_S:
                refused = self._refused(answer)
                if isinstance(refused, Unavailable):
                    refused.retry_after = timedelta(seconds=rest_s)
                raise refused
        raise AssertionError("every try returns or raises")

    def _check(self, answer: httpx.Response) -> None:
        if not answer.is_success:
            raise self._refused(answer)

    def _refused(self, answer: httpx.Response) -> KlepaasError:
        where, said = f"the registry {self.host}", _said(answer)
        secrets = (self._keys.access, self._keys.secret)
        words = words_of(said, secrets)
        evidence: dict[str, Any] = {"status": answer.status_code, "registry": self.host, "words": words}
        if answer.status_code == 401:
            return AuthenticationFailed(
                f"NCP REST error 401: {where} does not accept the keys. Whether the image is there is not known.",
                hint="Look at KLEPAAS_NCP_ACCESS_KEY and KLEPAAS_NCP_SECRET_KEY.",
                evidence=evidence,
            )
        if answer.status_code == 403:
            return PermissionMissing(
                f"NCP REST error 403: {where} does not show this to the keys. Whether the image is there is not known.",
                hint="Give their sub account the permission for Container Registry in Naver Cloud's console.",
                evidence=evidence,
            )
        return refusal(answer, said, service=SERVICE, method="GET", secrets=secrets)


def _tags(answer: httpx.Response) -> list[str]:
    try:
        return [str(tag) for tag in json.loads(answer.content).get("tags") or ()]
    except (ValueError, TypeError, AttributeError):
        raise not_understood(SERVICE, answer) from None


def _said(answer: httpx.Response) -> Said:
    """Its own form: `{"errors": [{"code", "message"}]}`."""
    try:
        first = json.loads(answer.content)["errors"][0]
        return Said(str(first.get("code") or "")[:40], str(first.get("message") or "")[:300])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return Said()

"""Request signatures of the API gateway. Source: NCP guide, common API information; its Go SDK (`hmac`)."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from klepaas.testing.ncp.answers import authentication_failed

TIMESTAMP, KEY = "x-ncp-apigw-timestamp", "x-ncp-iam-access-key"
SIGNATURES = ("x-ncp-apigw-signature-v2", "x-ncp-apigw-signature-v1")
"""The second name is the Go SDK's; the first wins when both are there."""

WINDOW_MS = 5 * 60 * 1000
"""How far a timestamp may be away from the gateway's clock."""


@dataclass(frozen=True)
class KeyPair:
    access_key: str
    secret_key: str = field(repr=False)
    user: str = "deployer"


def signature(method: str, target: str, timestamp: str, pair: KeyPair) -> str:
    """`target` is path and query as they are on the wire; `timestamp` milliseconds since 1970, as text."""
    signed = f"{method} {target}\n{timestamp}\n{pair.access_key}".encode()
    return base64.b64encode(hmac.new(pair.secret_key.encode(), signed, hashlib.sha256).digest()).decode()


def signer(
    method: str, target: str, headers: Mapping[str, str], pairs: Mapping[str, KeyPair], *, now_ms: int
) -> KeyPair:
    """Whose signature this request carries. Errors: Answer 401."""
    timestamp, pair = headers.get(TIMESTAMP, ""), pairs.get(headers.get(KEY, ""))
    shown = next((headers[name] for name in SIGNATURES if headers.get(name)), "")
    if not (timestamp.isascii() and timestamp.isdigit()) or pair is None:
        raise authentication_failed()
    if abs(int(timestamp) - now_ms) > WINDOW_MS:
        raise authentication_failed()
    if not hmac.compare_digest(shown.encode(), signature(method, target, timestamp, pair).encode()):
        raise authentication_failed()
    return pair

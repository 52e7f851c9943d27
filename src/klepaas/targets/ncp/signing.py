"""How a request shows Naver Cloud who sends it. The path is signed with its query, exactly as it stands on the wire.

Source: Naver Cloud API guide, "Ncloud API"; the IAM authenticator signs its tokens by the same rule."""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Of a main or a sub account. Neither shows in a repr."""

    access: str = field(repr=False)
    secret: str = field(repr=False)


def signature(method: str, target: str, timestamp_ms: int | str, keys: Keys) -> str:
    """`target` is path and `?query` as sent, without scheme, host and fragment."""
    text = f"{method.upper()} {target}\n{timestamp_ms}\n{keys.access}"
    return base64.b64encode(hmac.digest(keys.secret.encode(), text.encode(), hashlib.sha256)).decode()


def signed_headers(method: str, target: str, timestamp_ms: int, keys: Keys, *, region: str) -> dict[str, str]:
    return {
        "x-ncp-apigw-timestamp": str(timestamp_ms),
        "x-ncp-iam-access-key": keys.access,
        "x-ncp-apigw-signature-v2": signature(method, target, timestamp_ms, keys),
        "x-ncp-region_code": region,
    }

"""Whether a webhook really comes from GitHub: HMAC-SHA256 over the bytes of the body, as they came.

The sentences are those clients of the older system know."""

import hmac
import re
from dataclasses import dataclass, field

from klepaas.domain.github_app import WebhookSecrets
from klepaas.errors import NotAuthenticated, Refused

_FORM = re.compile(rb"sha256=[0-9a-f]{64}")


class Unsigned(Refused):
    """Nothing to check: no secret here, or no signature there."""

    code = "unsigned_webhook"


class WrongSignature(NotAuthenticated):
    code = "wrong_signature"


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A well-formed signature, and the secret it has to be made with."""

    secret: bytes = field(repr=False)
    offered: bytes
    complaint: str

    def check(self, body: bytes) -> None:
        """Errors: WrongSignature. Takes the same time wherever the two differ."""
        right = b"sha256=" + hmac.digest(self.secret, body, "sha256").hex().encode()
        if not hmac.compare_digest(right, self.offered):
            raise WrongSignature(self.complaint)


def signature(secrets: WebhookSecrets, header: bytes | None) -> Signature:
    """What has to be checked once the body is there: the App's secret goes before the one set up by hand.

    Says no before a body is read to whoever could not be GitHub. Errors: Unsigned, WrongSignature."""
    if secrets.app:
        if not header:
            raise Unsigned("Missing signature header")
        return _well_formed(secrets.app, header, "Invalid GitHub App signature", "Invalid GitHub App signature")
    if secrets.legacy:
        return _well_formed(secrets.legacy, header or b"", "invalid signature header", "signature mismatch")
    raise Unsigned("webhook secret not configured")


def _well_formed(secret: str, header: bytes, unlike_one: str, wrong: str) -> Signature:
    if not header.startswith(b"sha256="):
        raise WrongSignature(unlike_one)
    if not _FORM.fullmatch(header):
        raise WrongSignature(wrong)
    return Signature(secret=secret.encode(), offered=header, complaint=wrong)

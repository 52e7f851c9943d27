"""S-07: who is believed. The sentences and their order are those of the older system."""

import hashlib
import hmac

import pytest

from klepaas.domain.github_app import WebhookSecrets
from klepaas.domain.webhook_signature import Unsigned, WrongSignature, signature
from tests.deliveries.payloads import signed

BODY = b'{"zen":"Keep it logically awesome."}'
APP, LEGACY = WebhookSecrets(app="a-secret", legacy="l-secret"), WebhookSecrets(legacy="l-secret")


def test_a_delivery_signed_with_the_secret_is_believed() -> None:
    signature(APP, signed(BODY, "a-secret").encode()).check(BODY)
    signature(LEGACY, signed(BODY, "l-secret").encode()).check(BODY)


def test_the_secret_of_the_app_goes_before_the_other_one() -> None:
    with pytest.raises(WrongSignature, match=r"^Invalid GitHub App signature$"):
        signature(APP, signed(BODY, "l-secret").encode()).check(BODY)


@pytest.mark.parametrize("secrets", [WebhookSecrets(), WebhookSecrets(app="", legacy="")])
def test_without_a_secret_nothing_is_believed(secrets: WebhookSecrets) -> None:
    """Not even what is signed with an empty one."""
    with pytest.raises(Unsigned, match=r"^webhook secret not configured$"):
        signature(secrets, signed(BODY, "").encode())


@pytest.mark.parametrize("header", [None, b""])
def test_a_missing_signature_is_said_so(header: bytes | None) -> None:
    with pytest.raises(Unsigned, match=r"^Missing signature header$"):
        signature(APP, header)
    with pytest.raises(WrongSignature, match=r"^invalid signature header$"):
        signature(LEGACY, header)


WRONG = {
    "of another body": signed(b"other", "a-secret").encode(),
    "of another secret": signed(BODY, "other").encode(),
    "SHA-1 only": signed(BODY, "a-secret", algorithm="sha1").encode(),
    "without its kind": hmac.new(b"a-secret", BODY, hashlib.sha256).hexdigest().encode(),
    "too short": signed(BODY, "a-secret").encode()[:-1],
    "too long": signed(BODY, "a-secret").encode() + b"0",
    "with a line end": signed(BODY, "a-secret").encode() + b"\n",
    "not ASCII": "sha256=ä€".encode() + b"\xff" * 60,
    "not hex": b"sha256=" + b"z" * 64,
    "nothing but its kind": b"sha256=",
    "in capitals": signed(BODY, "a-secret").upper().encode(),
    "of 10,000 characters": b"sha256=" + b"0" * 10_000,
}


@pytest.mark.parametrize("header", WRONG.values(), ids=WRONG)
def test_a_wrong_signature_is_refused(header: bytes) -> None:
    with pytest.raises(WrongSignature, match=r"^Invalid GitHub App signature$"):
        signature(APP, header).check(BODY)


@pytest.mark.parametrize("header", WRONG.values(), ids=WRONG)
def test_a_wrong_signature_is_refused_by_the_legacy_secret(header: bytes) -> None:
    expected = "signature mismatch" if header.startswith(b"sha256=") else "invalid signature header"

    with pytest.raises(WrongSignature, match=rf"^{expected}$"):
        signature(LEGACY, header).check(BODY)


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)

    signature(APP, signed(BODY, "a-secret").encode()).check(BODY)

    assert len(compared) == 1


def test_no_secret_is_shown_by_accident() -> None:
    assert "secret" not in repr(signature(LEGACY, signed(BODY, "l-secret").encode())).replace("secret=", "")
    assert "l-secret" not in repr(LEGACY)

"""The JSON web token by which an App says who it is, checked the way GitHub checks it."""

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

LONGEST_S = 600
"""A token may not end later than ten minutes from now. Source: GitHub's page on tokens of Apps."""

CLOCK_LEEWAY_S = 0
"""GitHub allows none worth counting on: it asks for an `iat` a minute in the past instead."""


class BadToken(Exception):
    """With GitHub's words."""


def issuer(token: str) -> str:
    """Whom an unchecked token says it is from. Errors: BadToken."""
    return str(_decode(token)[1].get("iss", ""))


def check(token: str, public_key: rsa.RSAPublicKey, now: datetime) -> None:
    """Errors: BadToken when the signature or a time is wrong."""
    header, claims = _decode(token)
    if header.get("alg") != "RS256":
        raise BadToken("A JSON web token could not be decoded")
    signed, _, signature = token.rpartition(".")
    try:
        public_key.verify(_bytes(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise BadToken("A JSON web token could not be decoded") from None
    expires, issued, moment = claims.get("exp"), claims.get("iat"), now.timestamp()
    if not _is_number(expires) or float(str(expires)) <= moment:
        raise BadToken(
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which"
            " the assertion expires"
        )
    if float(str(expires)) > moment + LONGEST_S + CLOCK_LEEWAY_S:
        raise BadToken("'Expiration time' claim ('exp') is too far in the future")
    if not _is_number(issued) or float(str(issued)) > moment + CLOCK_LEEWAY_S:
        raise BadToken(
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
        )


@lru_cache(maxsize=1)
def shared_key() -> rsa.RSAPrivateKey:
    """One key for the Apps of all stand-ins of this process: making one takes a tenth of a second."""
    return new_key()


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey) -> str:
    """In the form in which GitHub hands it out (PKCS #1)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()


def _decode(token: str) -> tuple[Mapping[str, object], Mapping[str, object]]:
    try:
        header, claims, _ = token.split(".")
        decoded = json.loads(_bytes(header)), json.loads(_bytes(claims))
    except (ValueError, binascii.Error):
        raise BadToken("A JSON web token could not be decoded") from None
    if not all(isinstance(part, dict) for part in decoded):
        raise BadToken("A JSON web token could not be decoded")
    return decoded


def _bytes(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

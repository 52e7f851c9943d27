"""Secrets at rest: AES-256-GCM, each value bound to its place, so that none can be moved to another.

A sealed value is: format (1 byte), key id (4 bytes), nonce (12 bytes), ciphertext with tag. The key id lets keys
rotate: the first key of the ring seals, every one of them opens."""

import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from klepaas.errors import Invalid, WrongKey

KEY_BYTES = 32
_FORMAT = b"\x01"
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12


class Sealer:
    """Seals and opens with the keys of this installation. Has no useful repr on purpose."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """The first key seals; the others are earlier ones that still open what they sealed."""
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self._current = _key_id(keys[0])
        self._digest_key = hmac.digest(keys[0], b"klepaas environment digest", "sha256")

    @property
    def key_id(self) -> str:
        """Names the key that seals now, without telling it."""
        return self._current.hex()

    def is_current(self, sealed: bytes) -> bool:
        """Whether the key that seals now sealed this; False while an earlier key is needed to open it."""
        return sealed.startswith(_FORMAT + self._current)

    def seal(self, value: bytes, place: str) -> bytes:
        """`place` says where the value is kept, e.g. `variable:{project}:{environment}:{name}`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._ciphers[self._current].encrypt(nonce, value, place.encode())
        return _FORMAT + self._current + nonce + sealed

    def open(self, sealed: bytes, place: str) -> bytes:
        """Errors: WrongKey when no key of ours sealed it, or it was damaged or moved here from another place."""
        key_id, rest = sealed[1 : 1 + _KEY_ID_BYTES], sealed[1 + _KEY_ID_BYTES :]
        cipher = self._ciphers.get(key_id) if sealed[:1] == _FORMAT else None
        if cipher is None:
            raise WrongKey(
                f"{place} cannot be opened: it was sealed with the key {key_id.hex()}, and klepaas has "
                f"{', '.join(known.hex() for known in self._ciphers)}.",
                hint="Start klepaas with the earlier key as well (KLEPAAS_ENCRYPTION_KEY=new,earlier), or set it anew.",
            )
        try:
            return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError) as error:
            raise WrongKey(
                f"{place} cannot be opened: it was damaged, or put there from another place.", hint="Set it anew."
            ) from error

    def seal_values(self, values: Mapping[str, str], place: str) -> bytes:
        return self.seal(json.dumps(dict(values)).encode(), place)

    def open_values(self, sealed: bytes, place: str) -> dict[str, str]:
        values: dict[str, str] = json.loads(self.open(sealed, place))
        return values

    def digest(self, values: Mapping[str, str]) -> str:
        """Equal for equal values and meaningless without the key. Another key gives other digests."""
        plain = json.dumps(sorted(values.items())).encode()
        return hmac.new(self._digest_key, plain, hashlib.sha256).hexdigest()


def new_key() -> str:
    """32 random bytes as text, URL-safe base64."""
    return urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def parse_keys(text: str) -> list[bytes]:
    """Keys as an operator writes them, URL-safe base64, separated by commas or white space; the first one seals.

    Errors: Invalid, without showing anything of the key."""
    keys = [_parse_key(part) for part in text.replace(",", " ").split()]
    if not keys:
        raise Invalid("The encryption key is empty.", hint=_HOW_TO_MAKE_ONE)
    return keys


_HOW_TO_MAKE_ONE = (
    "Make one with: python3 -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
)


def _parse_key(text: str) -> bytes:
    try:
        key = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise Invalid(
            f"The encryption key is not {KEY_BYTES} bytes in URL-safe base64.", hint=_HOW_TO_MAKE_ONE
        ) from None
    return key


def _key_id(key: bytes) -> bytes:
    return hmac.digest(key, b"klepaas key id", "sha256")[:_KEY_ID_BYTES]

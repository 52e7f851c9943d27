"""Where the encryption key comes from: the settings, or a file in klepaas' home that only its user can read."""

import contextlib
import os
import secrets
from pathlib import Path

from klepaas.errors import Invalid, WrongKey
from klepaas.storage.facts import KEY_CHECK, FactTable
from klepaas.storage.rotation import reseal
from klepaas.storage.sealing import Sealer, new_key, parse_keys


async def open_sealer(facts: FactTable, *, key_file: Path, given: str | None) -> Sealer:
    """The sealer for this database, its key checked against what the database was sealed with.

    `given` is the key of the settings. Without one it is read from `key_file`, made at the very first start.
    Errors: Invalid for a malformed key; WrongKey for another key, or none where there must be one."""
    if given is None:
        given = _read(key_file)
    if given is None:
        if await facts.get(KEY_CHECK) is not None:
            raise WrongKey(
                f"The encryption key is missing: there is no {key_file}, and the database holds sealed values.",
                hint="Put the file back, or set KLEPAAS_ENCRYPTION_KEY to the key of this database.",
            )
        _make(key_file)
        given = _read(key_file) or ""
    sealer = Sealer(parse_keys(given))
    if not await facts.check_key(sealer):
        await reseal(facts.database, sealer)
    return sealer


def _make(path: Path) -> None:
    """Have a key file, complete and 0600 from birth. Another process may make it at the same moment."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "w") as out:
            out.write(new_key() + "\n")
            out.flush()
            os.fsync(out.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(unfinished, path)
    finally:
        unfinished.unlink()


def _read(path: Path) -> str | None:
    """None when there is no file. Errors: Invalid when others than its owner can read it."""
    try:
        with path.open() as file:
            mode, text = os.fstat(file.fileno()).st_mode, file.read()
    except FileNotFoundError:
        return None
    if mode & 0o077:
        raise Invalid(
            f"{path} can be read by others than its owner.", hint=f"If nobody else has seen it: chmod 600 {path}"
        )
    return text

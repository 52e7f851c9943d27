"""Single values of this installation: its instance id, and the check that its encryption key is the right one."""

import contextlib
import secrets

import sqlalchemy as sa

from klepaas.errors import WrongKey
from klepaas.storage.database import Database
from klepaas.storage.sealing import Sealer
from klepaas.storage.tables import facts

INSTANCE_ID = "instance_id"
KEY_CHECK = "key_check"
_KEY_CHECK_PLACE = "fact:key_check"
_KEY_CHECK_TEXT = b"klepaas"


class FactTable:
    def __init__(self, database: Database) -> None:
        self.database = database

    async def instance_id(self) -> str:
        """Marks what belongs to this klepaas on an engine that others use too. Made once, never changes."""
        return await self.get(INSTANCE_ID) or await self.settle(INSTANCE_ID, secrets.token_hex(6))

    async def get(self, name: str) -> str | None:
        async with self.database.read() as connection:
            value: str | None = await connection.scalar(sa.select(facts.c.value).where(facts.c.name == name))
            return value

    async def settle(self, name: str, value: str) -> str:
        """Write the value unless there is one; the one that is there in the end. Racing processes agree on it."""
        with contextlib.suppress(sa.exc.IntegrityError):
            async with self.database.write() as connection:
                await connection.execute(sa.insert(facts).values(name=name, value=value))
        return await self.get(name) or value

    async def check_key(self, sealer: Sealer) -> bool:
        """Compare the key with the one this database was first used with. Errors: WrongKey.

        False when only an earlier key of the ring is the right one: then everything is to be sealed again."""
        check = await self.get(KEY_CHECK) or await self.settle(KEY_CHECK, key_check_of(sealer))
        try:
            sealer.open(bytes.fromhex(check), _KEY_CHECK_PLACE)
        except (WrongKey, ValueError) as error:
            raise WrongKey(
                f"The encryption key {sealer.key_id} is not the one this database was sealed with.",
                hint="Start klepaas with the earlier key (KLEPAAS_ENCRYPTION_KEY or secret.key in its home). "
                "To change keys give both once, the new one first: KLEPAAS_ENCRYPTION_KEY=new,earlier",
            ) from error
        return sealer.is_current(bytes.fromhex(check))


def key_check_of(sealer: Sealer) -> str:
    """What is kept to tell the right key by."""
    return sealer.seal(_KEY_CHECK_TEXT, _KEY_CHECK_PLACE).hex()

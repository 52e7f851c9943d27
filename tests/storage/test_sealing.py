import stat
from pathlib import Path

import pytest

from klepaas.errors import Invalid, WrongKey
from klepaas.storage.database import Database
from klepaas.storage.facts import FactTable
from klepaas.storage.keys import open_sealer
from klepaas.storage.sealing import Sealer, new_key, parse_keys

OLD, NEW = bytes(32), bytes(range(32))


def test_what_was_sealed_can_be_opened_in_its_place() -> None:
    sealer = Sealer([NEW])

    assert sealer.open(sealer.seal(b"hunter2", "variable:p:e:N"), "variable:p:e:N") == b"hunter2"


def test_a_sealed_value_moved_to_another_place_is_refused() -> None:
    sealer = Sealer([NEW])

    with pytest.raises(WrongKey, match="from another place"):
        sealer.open(sealer.seal(b"hunter2", "variable:mine:e:N"), "variable:yours:e:N")


@pytest.mark.parametrize("place", range(0, 40, 3))
def test_a_damaged_value_is_refused(place: int) -> None:
    sealer = Sealer([NEW])
    sealed = bytearray(sealer.seal(b"hunter2", "here"))
    sealed[place % len(sealed)] ^= 1

    with pytest.raises(WrongKey):
        sealer.open(bytes(sealed), "here")


@pytest.mark.parametrize("length", [0, 1, 5, 16, 30])
def test_a_cut_off_value_is_refused(length: int) -> None:
    sealer = Sealer([NEW])

    with pytest.raises(WrongKey):
        sealer.open(sealer.seal(b"hunter2", "here")[:length], "here")


def test_another_key_is_refused_with_the_names_of_both_keys() -> None:
    """R-33."""
    old, new = Sealer([OLD]), Sealer([NEW])

    with pytest.raises(WrongKey, match=f"{old.key_id}.*{new.key_id}"):
        new.open(old.seal(b"hunter2", "here"), "here")


def test_an_earlier_key_still_opens_what_it_sealed_and_the_first_one_seals() -> None:
    both = Sealer([NEW, OLD])

    assert both.open(Sealer([OLD]).seal(b"hunter2", "here"), "here") == b"hunter2"
    assert Sealer([NEW]).open(both.seal(b"hunter2", "here"), "here") == b"hunter2"


def test_equal_values_have_equal_digests_and_no_others_do() -> None:
    sealer = Sealer([NEW])

    assert sealer.digest({"A": "1", "B": "2"}) == sealer.digest({"B": "2", "A": "1"})
    assert len({sealer.digest(v) for v in ({}, {"A": "1"}, {"A": "2"}, {"A": "1", "B": ""}, {"A1": ""})}) == 5
    assert sealer.digest({"A": "1"}) != Sealer([OLD]).digest({"A": "1"})


@pytest.mark.parametrize("text", ["", " ", "short", "not base64 at all!", "A" * 44 + "," + "B" * 10, "키" * 20])
def test_a_malformed_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_keys(text)

    assert not text.strip() or text.strip() not in refused.value.message + refused.value.hint


async def test_the_first_start_makes_a_key_that_later_starts_use(database: Database, tmp_path: Path) -> None:
    facts, file = FactTable(database), tmp_path / "home" / "secret.key"
    first = await open_sealer(facts, key_file=file, given=None)
    second = await open_sealer(facts, key_file=file, given=None)

    assert second.open(first.seal(b"hunter2", "here"), "here") == b"hunter2"


async def test_the_key_file_is_private(database: Database, tmp_path: Path) -> None:
    """S-06."""
    file = tmp_path / "home" / "secret.key"
    await open_sealer(FactTable(database), key_file=file, given=None)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == ["secret.key"]


async def test_a_key_file_others_can_read_is_refused(database: Database, tmp_path: Path) -> None:
    """S-06."""
    file = tmp_path / "secret.key"
    await open_sealer(FactTable(database), key_file=file, given=None)
    file.chmod(0o644)

    with pytest.raises(Invalid, match="can be read by others"):
        await open_sealer(FactTable(database), key_file=file, given=None)


async def test_a_wrong_key_is_refused_at_start(database: Database, tmp_path: Path) -> None:
    """R-33."""
    facts, file = FactTable(database), tmp_path / "secret.key"
    await open_sealer(facts, key_file=file, given=new_key())

    with pytest.raises(WrongKey, match="not the one this database was sealed with"):
        await open_sealer(facts, key_file=file, given=new_key())


async def test_a_lost_key_file_is_refused_at_start_and_not_made_anew(database: Database, tmp_path: Path) -> None:
    """R-33."""
    facts, file = FactTable(database), tmp_path / "secret.key"
    await open_sealer(facts, key_file=file, given=None)
    file.unlink()

    with pytest.raises(WrongKey, match="missing"):
        await open_sealer(facts, key_file=file, given=None)
    assert not file.exists()


async def test_a_new_key_takes_over_when_the_earlier_one_is_given_with_it(database: Database, tmp_path: Path) -> None:
    """R-33."""
    facts, file, old, new = FactTable(database), tmp_path / "secret.key", new_key(), new_key()
    await open_sealer(facts, key_file=file, given=old)
    await open_sealer(facts, key_file=file, given=f"{new},{old}")

    await open_sealer(facts, key_file=file, given=new)
    with pytest.raises(WrongKey):
        await open_sealer(facts, key_file=file, given=old)

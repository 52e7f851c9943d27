"""Durations as people write them, read in one way for settings and for the command line."""

import re
from datetime import timedelta

ACCEPTED = "seconds as a number (1200), or e.g. 90s, 20m, 1h30m, 00:20:00 or PT20M"

_NUMBER = r"(\d+(?:\.\d+)?)"
_PLAIN = re.compile(rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s?)?", re.ASCII)
_ISO = re.compile(rf"P(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T(?=.)(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?", re.ASCII)
_CLOCK = re.compile(r"(\d+):([0-5]\d):([0-5]\d(?:\.\d+)?)", re.ASCII)


def parse(text: str) -> timedelta:
    """Read `90`, `90s`, `20m`, `1h30m`, `30d`, `00:20:00` or ISO 8601 without years and months, whose length varies.

    Errors: ValueError, whose words say what to give."""
    given = text.strip()
    try:
        if plain := _PLAIN.fullmatch(given):
            return _of("dhms", plain.groups())
        if iso := _ISO.fullmatch(given):
            return _of("wdhms", iso.groups())
        if clock := _CLOCK.fullmatch(given):
            return _of("hms", clock.groups())
    except OverflowError:
        pass
    raise ValueError(f"give {ACCEPTED}")


_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def _of(units: str, numbers: tuple[str | None, ...]) -> timedelta:
    named = {_UNITS[unit]: float(number) for unit, number in zip(units, numbers, strict=True) if number is not None}
    if not named:
        raise ValueError(f"give {ACCEPTED}")
    return timedelta(**named)

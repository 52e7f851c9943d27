"""What a registry asks for in `WWW-Authenticate`. Source: RFC 9110, section 11; Docker's token specification."""

import re
from dataclasses import dataclass

_PART = re.compile(
    r"""\s*,?\s*(?:
        (?P<key>[A-Za-z0-9_-]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]+))
        |(?P<scheme>[A-Za-z][A-Za-z0-9_-]*)(?=\s|,|$)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Challenge:
    """`scheme` is in lower case, as are the names of its parameters."""

    scheme: str
    parameters: dict[str, str]


def challenges(header: str) -> list[Challenge]:
    """Those of a header, in its order; what cannot be read ends the list."""
    found: list[Challenge] = []
    at = 0
    while at < len(header) and (part := _PART.match(header, at)) and part.end() > at:
        if part["scheme"]:
            found.append(Challenge(part["scheme"].lower(), {}))
        elif found:
            value = part["plain"] if part["quoted"] is None else re.sub(r"\\(.)", r"\1", part["quoted"])
            found[-1].parameters.setdefault(part["key"].lower(), value)
        at = part.end()
    return found

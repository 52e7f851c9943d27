"""The ports a Dockerfile exposes, read from its text: the registry's own word for them may be out of reach."""

import re

_FROM = re.compile(r"\s*FROM\s", re.IGNORECASE)
_EXPOSE = re.compile(r"\s*EXPOSE\s+(?P<ports>[^#]*)", re.IGNORECASE)
_PORT = re.compile(r"(?P<number>[0-9]{1,5})(?:/tcp)?", re.IGNORECASE)


def exposed_ports(dockerfile: bytes) -> tuple[int, ...]:
    """Of its last stage, lowest first. Ranges, variables and UDP are left out, and so is what its base exposes."""
    found: set[int] = set()
    for line in dockerfile.decode(errors="replace").splitlines():
        if _FROM.match(line):
            found.clear()
        elif expose := _EXPOSE.match(line):
            numbers = (_PORT.fullmatch(word) for word in expose["ports"].split())
            found |= {int(number["number"]) for number in numbers if number}
    return tuple(sorted(port for port in found if 1 <= port <= 65535))

"""What a container wrote, taken apart from the engine's framing."""

from collections.abc import Iterator
from dataclasses import dataclass

_HEADER_BYTES = 8
"""One byte for the stream, three empty ones, four for the length. Source: Engine API, ContainerAttach."""


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """`at` is the engine's RFC 3339 time with nanoseconds, good for resuming; `text` has no line end."""

    at: str
    stream: str
    text: str


def lines_of(body: bytes) -> list[LogLine]:
    """The log lines in an answer asked for with `timestamps=1`, oldest first.

    The engine splits long lines into frames of 16 KiB, each with its own timestamp; they are joined again.
    A frame that was cut off at the end is given as far as it came."""
    lines: list[LogLine] = []
    unfinished: dict[str, tuple[str, str]] = {}
    for stream, payload in _frames(body):
        for piece in payload.decode(errors="replace").splitlines(keepends=True):
            at, _, text = piece.partition(" ")
            began, before = unfinished.pop(stream, (at, ""))
            if piece.endswith("\n"):
                lines.append(LogLine(at=began, stream=stream, text=before + text.rstrip("\r\n")))
            else:
                unfinished[stream] = (began, before + text)
    lines.extend(LogLine(at=at, stream=stream, text=text) for stream, (at, text) in unfinished.items())
    return lines


def _frames(body: bytes) -> Iterator[tuple[str, bytes]]:
    position = 0
    while position + _HEADER_BYTES <= len(body):
        length = int.from_bytes(body[position + 4 : position + _HEADER_BYTES])
        stream = "stderr" if body[position] == 2 else "stdout"
        position += _HEADER_BYTES
        yield stream, body[position : position + length]
        position += length

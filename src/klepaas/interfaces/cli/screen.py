"""The two voices of a command: data on stdout, talk on stderr; colour only where a terminal listens."""

import json
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from klepaas.interfaces.cli import words

if TYPE_CHECKING:
    from rich.console import Console


class Screen:
    """`as_json`: stdout carries JSON and nothing else. `quiet`: no talk, only data and errors."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self.as_json, self.quiet, self.verbose = as_json, quiet, verbose

    @cached_property
    def console(self) -> "Console":
        """Where talk goes. Honours NO_COLOR; plain without a terminal."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)

    @cached_property
    def _data(self) -> "Console":
        from rich.console import Console

        return Console(highlight=False, soft_wrap=True, markup=False, emoji=False)

    @property
    def is_live(self) -> bool:
        """Whether talk may be redrawn in place."""
        return self.console.is_terminal and not self.console.is_dumb_terminal and not self.quiet and not self.as_json

    @property
    def can_ask(self) -> bool:
        return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()

    def say(self, text: str = "", style: str = "") -> None:
        """Talk: progress, hints, summaries."""
        if not self.quiet:
            self.console.print(words.harmless(text), style=style or None)

    def warn(self, text: str) -> None:
        self.console.print(f"warning: {words.harmless(text)}", style="yellow")

    def line(self, text: str, style: str = "") -> None:
        """One line of data for people; silent under --json."""
        if not self.as_json:
            self._data.print(words.harmless(text), style=style or None)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
        """A listing for people: `styles` colours whole rows."""
        if self.as_json:
            return
        head_line, *lines = words.listing([head, *[[words.harmless(cell) for cell in row] for row in rows]])
        self.line(head_line, "bold")
        for number, text in enumerate(lines):
            self.line(text, styles[number] if number < len(styles) else "")

    def json(self, data: Mapping[str, Any]) -> None:
        """The one object of --json; nothing without it."""
        if self.as_json:
            self.json_line(data)

    def json_line(self, data: Mapping[str, Any]) -> None:
        """One JSON object in one line, at once."""
        sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def confirm(self, question: str) -> bool:
        """Ask on the terminal; anything but yes is no."""
        self.console.print(f"{words.harmless(question)} [y/N] ", end="")
        return sys.stdin.readline().strip().lower() in {"y", "yes", "네", "예"}

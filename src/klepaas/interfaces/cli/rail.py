"""The stage rail: redrawn in place on a terminal, told line by line elsewhere."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from klepaas.interfaces.cli import words
from klepaas.interfaces.cli.progress import Progress, StageLine
from klepaas.interfaces.cli.screen import Screen

if TYPE_CHECKING:
    from rich.text import Text

MARKS = {"done": ("✓", "green"), "running": ("•", "cyan"), "failed": ("✗", "red")}
REDRAWS_PER_S = 8


class Rail:
    """What one waiting command shows while it waits."""

    def __init__(self, screen: Screen) -> None:
        self.progress = Progress()
        self._screen = screen

    def shown(self) -> AbstractContextManager[None]:
        return self._redrawn() if self._screen.is_live else _nothing()

    @contextmanager
    def _redrawn(self) -> Iterator[None]:
        from rich.live import Live

        live = Live(
            get_renderable=self.drawing,
            console=self._screen.console,
            refresh_per_second=REDRAWS_PER_S,
            vertical_overflow="crop",
        )
        with live:
            yield

    def event(self, event: Mapping[str, Any]) -> None:
        for sentence in self.progress.feed(event):
            if not self._screen.is_live:
                self._screen.say(sentence)

    def build_line(self, text: str) -> None:
        if self._screen.verbose:
            self._screen.say(f"  {text}", style="dim")
        else:
            self.progress.build_lines.append(words.one_line(text, 200))

    def drawing(self) -> "Text":
        from rich.text import Text

        drawn = Text(no_wrap=True, overflow="ellipsis")
        for stage in self.progress.in_order():
            mark, style = MARKS[stage.mark]
            took = stage.took_s if stage.mark != "running" else _elapsed(stage)
            drawn.append(f"{mark} ", style)
            drawn.append(f"{stage.name:<8}{words.duration(took):>10}")
            drawn.append(f"   {stage.note}\n" if stage.note else "\n", "dim")
            if stage.name == "build" and self.progress.is_building:
                for line in self.progress.build_lines:
                    drawn.append(f"    {line}\n", "dim")
        drawn.rstrip()
        return drawn


def _elapsed(stage: StageLine) -> float | None:
    return max((datetime.now(UTC) - stage.since).total_seconds(), 0.0) if stage.since else None


@contextmanager
def _nothing() -> Iterator[None]:
    yield

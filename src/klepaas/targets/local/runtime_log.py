"""The last words of containers that are gone, kept for whoever asks why."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import structlog

from klepaas.targets.local.files import private_folder, write_whole

log = structlog.get_logger()

KEPT_BYTES = 64 * 1024


class RuntimeLogs:
    """One file per release under `folder/{app}/{release}.log`, at most KEPT_BYTES each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def save(self, app: str, release_id: str, lines: Sequence[str]) -> None:
        """Keep the last of these lines. An empty log does not replace what was kept earlier.

        A full disk is no error: a container is removed also when its last words cannot be kept."""
        if not lines:
            return
        try:
            await asyncio.to_thread(self._write, app, release_id, lines)
        except OSError as error:
            log.warning("last_words_not_kept", app=app, release_id=release_id, reason=error.strerror)

    async def read(self, app: str, release_id: str, lines: int) -> Sequence[str]:
        """The last kept lines, oldest first; empty when nothing was kept."""
        if lines <= 0:
            return []
        try:
            text = await asyncio.to_thread(self._file(app, release_id).read_text, errors="replace")
        except FileNotFoundError:
            return []
        return text.split("\n")[:-1][-lines:]

    def _write(self, app: str, release_id: str, lines: Sequence[str]) -> None:
        text = "".join(f"{line}\n" for line in lines).encode(errors="replace")
        if len(text) > KEPT_BYTES:
            # Begin with a whole line, unless the last one alone is too long.
            text = text[-KEPT_BYTES:]
            text = text[text.find(b"\n") + 1 :] or text
        file = self._file(app, release_id)
        private_folder(self._folder)
        private_folder(file.parent)
        write_whole(file, text)

    def _file(self, app: str, release_id: str) -> Path:
        return self._folder / _safe(app) / f"{_safe(release_id)}.log"


def _safe(name: str) -> str:
    # Names come from labels too, which others could have set: never leave the folder.
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:200] or "_"

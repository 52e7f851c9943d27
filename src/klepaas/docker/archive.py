"""Small tar archives for the engine, streamed so that a large file is never held in memory."""

import asyncio
import tarfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

_CHUNK_BYTES = 2**20


async def archive_of(files: Mapping[str, Path]) -> AsyncIterator[bytes]:
    """A tar stream in which each name holds that file, executable and owned by root."""
    for name, path in files.items():
        size = path.stat().st_size
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = size, 0o755
        # GNU, because BuildKit takes the first header of a PAX archive for a Dockerfile.
        yield entry.tobuf(format=tarfile.GNU_FORMAT)
        with path.open("rb") as source:
            while chunk := await asyncio.to_thread(source.read, _CHUNK_BYTES):
                yield chunk
        yield bytes(-size % tarfile.BLOCKSIZE)
    yield bytes(tarfile.RECORDSIZE)

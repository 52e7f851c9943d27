"""One database, SQLite or PostgreSQL, behind two doors: `read` and `write`.

SQLite has one writer at a time by nature. All writes of this process therefore queue for one connection, and
every write begins IMMEDIATE, so `database is locked` cannot happen between our own transactions."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from klepaas.errors import DatabaseUnavailable, DiskFull
from klepaas.storage import sqlite
from klepaas.storage.at_once import TransactionsAtOnce

if TYPE_CHECKING:
    from klepaas.storage.statements import Rows, Statements

log = structlog.get_logger()

T = TypeVar("T")

WRITE_QUEUE_TIMEOUT_S = 60.0
"""How long a write may wait for its turn; far beyond any queue seen in tests with 50 writers."""

READERS = 8


class Database:
    """Engines for one URL. `pulse` keeps a connection for lease renewals: they must not queue behind work."""

    def __init__(self, url: str, *, lease_s: float = 15.0) -> None:
        self.url = sa.make_url(normalise(url))
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._lock = asyncio.Lock()
        self._writes = self._writing = 0
        if self.is_sqlite:
            self._writer = _sqlite(self.url, begin=sqlite.BEGIN_WRITING, connections=1)
            self._reader = _sqlite(self.url, begin="BEGIN", connections=READERS)
            self._pulse = self._writer
            connect = partial(sqlite.connect, self.url)
            self._at_once = TransactionsAtOnce(connect, waits_for_lock_s=WRITE_QUEUE_TIMEOUT_S)
        else:
            self._writer = self._reader = _postgres(self.url, connections=10, lease_s=lease_s)
            self._pulse = _postgres(self.url, connections=1, lease_s=lease_s)
            self._statements = _statements(self.url, lease_s=lease_s)

    @property
    def now(self) -> sa.ColumnElement[float]:
        """Seconds since 1970 by the database's clock: processes need not agree on the time."""
        if self.is_sqlite:
            # Read when the statement runs, so that a statement may be built once and kept.
            return sa.bindparam("now", type_=sa.Float(), callable_=time.time, unique=True)
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Float)

    def insert(self, table: sa.Table) -> Any:
        """An INSERT that may meet a row; the two dialects write it alike, and SQLAlchemy types it apart."""
        if self.is_sqlite:
            from sqlalchemy.dialects import sqlite as dialect
        else:
            # Only here: it takes long to import, and SQLite has no use for it.
            from sqlalchemy.dialects import postgresql as dialect  # type: ignore[no-redef]
        return dialect.insert(table)

    @property
    def state(self) -> int | None:
        """While this says the same, nothing was written but what `write_at_once` and `pulse` wrote. None when nobody
        knows: where other processes write, too, and while somebody writes, whose commit may be seen before its end."""
        return self._writes if self.is_sqlite and not self._writing else None

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading one consistent state."""
        with _saying_unavailable():
            async with self._reader.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end of the block, rolled back when it raises."""
        with _saying_unavailable():
            async with self._turn():
                self._writing += 1
                try:
                    async with self._writer.begin() as connection:
                        yield connection
                finally:
                    self._writing -= 1
                    self._writes += 1

    async def write_at_once(self, work: Callable[[sqlite3.Connection], T], *, is_long: bool = False) -> T:
        """On SQLite, `write` for short work that needs to know nothing meanwhile and comes by the hundred a second.
        Once begun it ends, also when its caller is cancelled. `is_long`: it writes megabytes, or rows by the thousand.
        """
        with _saying_unavailable():
            async with self._turn():
                try:
                    return await self._at_once.carry_out(work, is_long=is_long)
                except asyncio.CancelledError:
                    await _to_its_end(self._at_once.finished())  # whoever writes next must not come before that
                    raise

    async def execute_at_once(self, statement: str, values: Sequence[Any]) -> "Rows":
        """On PostgreSQL, `write` for one statement that comes by the hundred a second and may be carried out twice.
        Its rows."""
        with _saying_unavailable():
            return await self._statements.carry_out(statement, values)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """SQLite has one writer at a time, whichever of our connections it writes with."""
        if not self.is_sqlite:
            yield
            return
        try:
            async with asyncio.timeout(WRITE_QUEUE_TIMEOUT_S):
                await self._lock.acquire()
        except TimeoutError as error:
            raise sa.exc.TimeoutError("the queue of those who want to write does not move") from error
        try:
            yield
        finally:
            self._lock.release()

    @asynccontextmanager
    async def pulse(self) -> AsyncIterator[AsyncConnection]:
        with _saying_unavailable():
            async with self._turn(), self._pulse.begin() as connection:
                yield connection

    async def close(self) -> None:
        for engine in {id(e): e for e in (self._writer, self._reader, self._pulse)}.values():
            await engine.dispose()
        if self.is_sqlite:
            self._at_once.close()
        else:
            await self._statements.close()


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Also when whoever waits for it, being cancelled already, is cancelled once more."""
    ending = asyncio.ensure_future(work)
    while not ending.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({ending})


@contextmanager
def _saying_unavailable() -> Iterator[None]:
    """Translate what the driver says when the database is away; constraint violations pass through."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError, sa.exc.TimeoutError) as error:
        text = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        if "syntax error" in text:
            raise  # a statement of ours (a migration's) is wrong; the database is there
        if "disk is full" in text or "No space left" in text:
            raise DiskFull("The disk of the database is full.", hint="Free some space; nothing was lost.") from error
        # What the driver says (hosts, users) is for the operator's log, not for whoever asked.
        log.warning("database_does_not_answer", reason=text)
        raise DatabaseUnavailable(
            "The database does not answer.", hint="The operator's log says why; try again."
        ) from error


def normalise(url: str) -> str:
    """The URL with the async driver we use: `sqlite:///…` and `postgresql://…` are accepted as written."""
    for prefix, driver in (
        ("sqlite:", "sqlite+aiosqlite:"),
        ("postgresql:", "postgresql+psycopg:"),
        ("postgres:", "postgresql+psycopg:"),
    ):
        if url.startswith(prefix):
            return driver + url.removeprefix(prefix)
    return url


def _sqlite(url: sa.URL, *, begin: str, connections: int) -> AsyncEngine:
    if url.database and url.database != ":memory:":
        sqlite.make_private(Path(url.database))
    engine = create_async_engine(
        url,
        poolclass=sa.pool.AsyncAdaptedQueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=WRITE_QUEUE_TIMEOUT_S,
        connect_args={
            "timeout": WRITE_QUEUE_TIMEOUT_S,
            "factory": sqlite.EndsItsTransaction,
            "async_creator_fn": sqlite.DirectConnection.creator(writes=begin == sqlite.BEGIN_WRITING),
        },
    )

    sqlite.configure(engine.sync_engine)

    @sa.event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _postgres(url: sa.URL, *, connections: int, lease_s: float) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=WRITE_QUEUE_TIMEOUT_S,
        pool_pre_ping=True,
        connect_args=_postgres_arguments(lease_s),
    )


def _statements(url: sa.URL, *, lease_s: float) -> "Statements":
    # Only here: the driver takes long to import, and SQLite has no use for it.
    from klepaas.storage.statements import Statements

    return Statements(url, _postgres_arguments(lease_s))


def _postgres_arguments(lease_s: float) -> dict[str, Any]:
    # A stopped process must not keep row locks for longer than its lease.
    patience_ms = int(lease_s * 1000 * 0.6)
    options = f"-c timezone=UTC -c idle_in_transaction_session_timeout={patience_ms}"
    return {
        "options": options,
        "connect_timeout": 10,
        # A server whose packets are lost says nothing, and by itself the kernel waits a quarter of an hour for it.
        "tcp_user_timeout": patience_ms,
        "keepalives_idle": max(1, int(lease_s / 4)),
        "keepalives_interval": 1,
        "keepalives_count": 5,
    }

"""Webhooks taken in: how many a second are verified, on disk and answered, and how soon; on SQLite and on PostgreSQL.

The floor is Debian's `webhook` program, which verifies, looks at the branch, and stores nothing."""

import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from bench.answers import body_at
from bench.figures import Samples, turns
from bench.report import BenchFailed, Report, ms
from bench.server import Server, server
from bench.surroundings import Surroundings, free_port, tied
from tests.deliveries.payloads import push, signed, to_bytes
from tests.servers.postgres import PostgresServer

RUNS = 3
LASTS_S = 5
WARMS_UP_S = 1
CLIENTS = 16
BODIES = 20
ONE_IN_REPEATS = 10
"""Of ten deliveries one is of the main branch and comes again and again under the same id."""
REPOSITORY = "acme/shop"
GOALS = {"sqlite": 1500, "postgres": 1000}
GOAL_P99_MS = 50
SETTLES_S = 0.5
STARTS_WITHIN_S = 10.0
SCRIPT = Path(__file__).with_suffix(".lua")
KLEPAAS_PATH, FLOOR_PATH = "/api/v1/cicd/webhook", "/hooks/deploy"


@dataclass
class Side:
    """Who is asked: a port and a path. `stored` counts deliveries in its inbox."""

    name: str
    port: int
    folder: Path
    ask: Server | None = None
    database: str = ""
    fresh: int = 0
    """Answered deliveries that were not repeated ones."""
    failed: int = 0
    figures: Samples = field(default_factory=Samples)

    def run(self, seconds: int, *, counts: bool = True) -> None:
        run = secrets.token_hex(4)
        result = _wrk(self.port, self.folder, seconds, run)
        self.fresh += result["requests"] - result["requests"] // ONE_IN_REPEATS
        self.failed += int(result["failed"])
        if counts:
            self.figures.add("per_second", result["requests"] / result["seconds"])
            for name in ("p50_ms", "p99_ms", "max_ms"):
                self.figures.add(name, result[name])

    def stored(self) -> int:
        query = "SELECT count(*) FROM deliveries WHERE id NOT LIKE 'repeated-%'"
        if self.database.startswith("postgresql"):
            with psycopg.connect(self.database.replace("+psycopg", "")) as postgres:
                row = postgres.execute(query).fetchone()
        else:
            with closing(sqlite3.connect(self.database)) as connection:
                row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])


def run(around: Surroundings, runs: int) -> Report:
    for program in ("wrk", "webhook"):
        if shutil.which(program) is None:
            raise BenchFailed(f"This needs the program {program}: apt-get install {program}")
    secret = secrets.token_hex(20)
    with ExitStack() as stack:
        sides = {each.name: each for each in _sides(around, secret, stack)}
        for side in sides.values():
            side.run(WARMS_UP_S, counts=False)
        for name in turns(tuple(sides), runs):
            sides[name].run(LASTS_S)
            time.sleep(SETTLES_S)
        lost = {name: max(side.fresh - side.stored(), 0) for name, side in sides.items() if name in GOALS}
    return _report(sides, lost, runs)


def _sides(around: Surroundings, secret: str, stack: ExitStack) -> Iterator[Side]:
    postgres = PostgresServer(durable=True)
    stack.callback(postgres.stop)
    postgres.start()
    for name in GOALS:
        settings = {"GITHUB_WEBHOOK_SECRET": secret, "LOG_LEVEL": "warning"}
        url = ""
        if name == "postgres":
            settings["DATABASE_URL"] = url = postgres.create_database()
        klepaas = stack.enter_context(server(around, name, settings))
        # With every push of its branch: nobody is asked about pull requests, here where no GitHub is.
        rules = {"pushes": "every_push"}
        klepaas.ask("POST", "/projects", {"name": "shop", "repository": REPOSITORY, "rules": rules})
        folder = _requests(around.folder / f"requests-{name}", klepaas.port, KLEPAAS_PATH, secret)
        database = url or str(klepaas.home / "klepaas.db")
        yield Side(name=name, port=klepaas.port, folder=folder, ask=klepaas, database=database)
    port = stack.enter_context(_floor(around, secret))
    folder = _requests(around.folder / "requests-floor", port, FLOOR_PATH, secret)
    yield Side(name="floor", port=port, folder=folder)


def _requests(folder: Path, port: int, path: str, secret: str) -> Path:
    """What `webhook.lua` sends: HTTP as bytes, with a mark where the id of the delivery belongs."""
    folder.mkdir()
    for number in range(1, BODIES + 1):
        for kind, ref in (("fresh", f"refs/heads/topic/{number}"), ("repeated", "refs/heads/main")):
            files = [f"src/part_{each}/module.py" for each in range(40)]
            payload = push(REPOSITORY, ref=ref, after=secrets.token_hex(20))
            payload["commits"][0]["modified"] = files
            body = to_bytes(payload)
            head = (
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: GitHub-Hookshot/044aadd\r\n"
                f"Accept: */*\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                "X-GitHub-Delivery: @DELIVERY@\r\nX-GitHub-Event: push\r\nX-GitHub-Hook-ID: 292430182\r\n"
                "X-GitHub-Hook-Installation-Target-ID: 79929171\r\n"
                "X-GitHub-Hook-Installation-Target-Type: repository\r\n"
                f"X-Hub-Signature-256: {signed(body, secret)}\r\n\r\n"
            )
            (folder / f"{kind}-{number}").write_bytes(head.encode() + body)
    return folder


def _wrk(port: int, folder: Path, seconds: int, run: str) -> dict[str, float]:
    argv = ["wrk", "--threads", "1", "--connections", str(CLIENTS), "--duration", f"{seconds}s", "--timeout", "10s"]
    argv += ["--script", str(SCRIPT), f"http://127.0.0.1:{port}", "--"]
    argv += [str(folder), str(BODIES), str(ONE_IN_REPEATS), run]
    done = subprocess.run([*tied(), *argv], capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            found: dict[str, float] = json.loads(line.removeprefix("RESULT "))
            return found
    raise BenchFailed(f"wrk said nothing: {done.stdout[-500:]} {done.stderr[-500:]}")


@contextmanager
def _floor(around: Surroundings, secret: str) -> Iterator[int]:
    """Debian's `webhook` with a rule that no delivery fulfils, so that it starts no program either."""
    port, hooks = free_port(), around.folder / "hooks.json"
    hooks.write_text(json.dumps([_rule(secret)]))
    argv = [*tied(), "webhook", "-hooks", str(hooks), "-ip", "127.0.0.1", "-port", str(port)]
    with (around.folder / "webhook.log").open("wb") as log:
        process = subprocess.Popen(
            argv, env={"PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while body_at(port, "/") is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchFailed(f"webhook did not start: {(around.folder / 'webhook.log').read_text()[-500:]}")
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()


def _rule(secret: str) -> Mapping[str, object]:
    header = {"source": "header", "name": "X-Hub-Signature-256"}
    branch = {"type": "value", "value": "refs/heads/live", "parameter": {"source": "payload", "name": "ref"}}
    return {
        "id": "deploy",
        "execute-command": "/bin/true",
        "trigger-rule": {
            "and": [
                {"match": {"type": "payload-hmac-sha256", "secret": secret, "parameter": header}},
                {"match": branch},
            ]
        },
    }


def _report(sides: Mapping[str, Side], lost: Mapping[str, int], runs: int) -> Report:
    def median(name: str, figure: str) -> float:
        return sides[name].figures.median(figure)

    rows = [
        [
            name,
            f"{median(name, 'per_second'):,.0f}",
            ms(median(name, "p50_ms")),
            ms(median(name, "p99_ms")),
            ms(median(name, "max_ms")),
            str(side.failed),
            str(lost.get(name, "–")),
        ]
        for name, side in sides.items()
    ]
    return Report(
        numbers={
            "per_second": median("sqlite", "per_second"),
            "p99_ms": median("sqlite", "p99_ms"),
            "p50_ms": median("sqlite", "p50_ms"),
            "failed": sum(side.failed for side in sides.values()),
            "lost": sum(lost.values()),
            "postgres_per_second": median("postgres", "per_second"),
            "postgres_p99_ms": median("postgres", "p99_ms"),
            "floor_per_second": median("floor", "per_second"),
            "floor_p99_ms": median("floor", "p99_ms"),
            "ratio": median("sqlite", "per_second") / median("floor", "per_second"),
            "clients": CLIENTS,
            "runs": runs,
        },
        head=["side", "per second", "p50", "p99", "slowest", "failed", "lost"],
        rows=rows,
        notes=[
            f"{CLIENTS} clients that keep their connections, {LASTS_S} s a run, {runs} runs of each side taking turns; "
            "medians, times in ms.",
            f"Goals: {GOALS['sqlite']:,} a second on SQLite and {GOALS['postgres']:,} on PostgreSQL, p99 below "
            f"{GOAL_P99_MS} ms. Lost: answered, and not in the inbox afterwards.",
        ],
    )

"""What klepaas costs while nothing happens, and how soon it answers after its start."""

import subprocess
import sys
import time

from bench.apps import static_app
from bench.figures import Samples, turns
from bench.report import Report, ms
from bench.server import Server
from bench.surroundings import Surroundings
from bench.usage import cpu_s, resident_mib

RUNS = 5
APPS = 3
SETTLES_S = 5.0
IDLE_S = 30.0
GOAL_MIB, GOAL_CPU_PERCENT, GOAL_START_S = 150, 1.0, 2.0
FLOOR = "import fastapi, sqlalchemy, uvicorn"


def run(around: Surroundings, runs: int) -> Report:
    klepaas = Server(around, "k")
    samples = Samples()
    try:
        first_ms = klepaas.start() * 1000
        for number in range(APPS):
            app = static_app(around, f"app-{number}")
            klepaas.register(app.name, app.repository, app.settings)
            klepaas.ended(klepaas.deploy(app.name))
        time.sleep(SETTLES_S)
        cpu_percent, mib = _idle(klepaas.pid)
        for side in turns(("klepaas", "floor"), runs):
            if side == "klepaas":
                klepaas.stop()
                samples.add(side, klepaas.start() * 1000)
            else:
                samples.add(side, _import_ms())
    finally:
        klepaas.stop()
        klepaas.remove_what_it_made()
    return _report(samples, first_ms=first_ms, cpu_percent=cpu_percent, mib=mib, runs=runs)


def _idle(pid: int) -> tuple[float, float]:
    """Percent of one core over IDLE_S, and MiB resident afterwards; of the process and its children."""
    before, began = cpu_s(pid), time.monotonic()
    time.sleep(IDLE_S)
    percent = (cpu_s(pid) - before) / (time.monotonic() - began) * 100
    return percent, resident_mib(pid)


def _import_ms() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", FLOOR], check=True)
    return (time.perf_counter() - began) * 1000


def _report(samples: Samples, *, first_ms: float, cpu_percent: float, mib: float, runs: int) -> Report:
    start_ms, floor_ms = samples.median("klepaas"), samples.median("floor")
    return Report(
        numbers={
            "ratio": samples.ratio("klepaas", "floor"),
            "rss_mib": mib,
            "cpu_percent": cpu_percent,
            "start_ms": start_ms,
            "first_start_ms": first_ms,
            "floor_ms": floor_ms,
            "apps": APPS,
            "idle_s": IDLE_S,
            "runs": runs,
        },
        head=["idle", "measured", "goal at most"],
        rows=[
            ["resident memory, MiB", f"{mib:.1f}", str(GOAL_MIB)],
            ["CPU, percent of one core", f"{cpu_percent:.2f}", f"{GOAL_CPU_PERCENT:.2f}"],
            ["start to /health, ms", ms(start_ms), ms(GOAL_START_S * 1000)],
            ["very first start to /health, ms", ms(first_ms), ms(GOAL_START_S * 1000)],
            [f'floor: python -c "{FLOOR}", ms', ms(floor_ms), ""],
        ],
        notes=[
            f"{APPS} apps run; idle for {IDLE_S:g} s; {runs} starts beside the floor, taking turns, medians.",
            f"A start takes {samples.ratio('klepaas', 'floor'):.2f} times as long as importing what it is made of.",
        ],
    )

"""Rules of the house that a program can check."""

import ast
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]
PACKAGE = HOUSE / "src" / "klepaas"
MODULES = sorted(PACKAGE.rglob("*.py"))


def _lines_that_use(module: Path, *names: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in names:
            yield f"{module.relative_to(HOUSE)}:{node.lineno} uses {ast.unparse(node)}"


def test_only_the_settings_read_the_environment() -> None:
    found = [
        line
        for module in MODULES
        if module != PACKAGE / "settings.py"
        for line in _lines_that_use(module, "os.environ", "os.getenv", "os.environb")
    ]

    assert found == []


def test_nothing_starts_a_program_except_processes() -> None:
    """`docker/daemon.py` starts the one program that is meant to outlive us."""
    starters = (
        *("asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell", "os.system", "os.popen", "os.execv"),
        *("subprocess.run", "subprocess.Popen", "subprocess.check_output", "os.posix_spawn"),
    )
    found = [
        line
        for module in MODULES
        if module not in (PACKAGE / "processes.py", PACKAGE / "process_guard.py", PACKAGE / "docker/daemon.py")
        for line in _lines_that_use(module, *starters)
    ]

    assert found == []


@pytest.mark.parametrize("script", ["run", ".ci/run", "examples/sample/build.sh"])
def test_scripts_can_be_run(script: str) -> None:
    assert (HOUSE / script).stat().st_mode & stat.S_IXUSR


def test_every_chore_is_in_the_help() -> None:
    text = (HOUSE / "run").read_text()
    chores = text[text.index("case $chore in") : text.index("help | -h")]
    named = [word for line in chores.splitlines()[1:] if ")" in line for word in line.split(")")[0].split(" | ")]
    usage = text[text.index("Usage:") : text.index("\nEND")]

    assert [chore.strip() for chore in named if f"\n  {chore.strip()} " not in usage] == []

"""`klepaas doctor`: everything klepaas needs of this machine, looked at, each with what to do about it."""

import asyncio
from typing import TYPE_CHECKING, Literal

import typer

from klepaas.interfaces.cli.exit_codes import ExitCode
from klepaas.interfaces.cli.options import Json, Quiet
from klepaas.interfaces.cli.screen import Screen

if TYPE_CHECKING:
    from klepaas.domain.finding import Finding

STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(
    server: bool = typer.Option(False, "--server", help="Only ask the klepaas of the login; nothing of this machine."),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Look at everything klepaas needs. Exit code 1 when something is in the way."""
    from klepaas.interfaces.cli import examination
    from klepaas.settings import ClientSettings, Settings, process_environment

    screen = Screen(as_json=as_json, quiet=quiet)
    settings = None if server else Settings()
    findings = asyncio.run(examination.examine(settings, ClientSettings(), process_environment()))
    screen.json({"ok": _worst(findings) != "fail", "checks": [vars(finding) for finding in findings]})
    for finding in findings:
        screen.line(f"{finding.level:<5} {finding.name:<11} {finding.detail}", STYLES[finding.level])
        if finding.next_step:
            screen.line(f"{'':<18}→ {finding.next_step}")
    raise typer.Exit(ExitCode.FAILED if _worst(findings) == "fail" else ExitCode.LIVE)


def _worst(findings: "list[Finding]") -> Literal["ok", "warn", "fail"]:
    levels = {finding.level for finding in findings}
    return "fail" if "fail" in levels else "warn" if "warn" in levels else "ok"

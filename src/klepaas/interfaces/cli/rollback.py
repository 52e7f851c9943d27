"""`klepaas rollback`: go back to an earlier release, after showing what that changes."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from klepaas.errors import Conflict, Invalid
from klepaas.interfaces.cli import words
from klepaas.interfaces.cli.exit_codes import ExitCode
from klepaas.interfaces.cli.options import (
    Environment,
    Json,
    Key,
    NoWait,
    ProjectName,
    Quiet,
    Timeout,
    Verbose,
    Watch,
    Yes,
)
from klepaas.interfaces.cli.screen import Screen

if TYPE_CHECKING:
    from klepaas.client import Client

WAYS = {
    "warm": "kept warm: back in milliseconds",
    "image": "its image is here: no build",
    "rebuild": "its image is gone: its commit is built again",
    "none": "gone: neither image nor commit can be had",
    "unknown": "cannot be told now",
}


def rollback(
    project: ProjectName,
    to: Annotated[
        str, typer.Argument(metavar="[STEPS|COMMIT]", help="How many releases back, or a commit (7 digits and more).")
    ] = "1",
    environment: Environment = None,
    candidates: Annotated[bool, typer.Option("--candidates", help="Only list what one can go back to.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    yes: Yes = False,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    key: Key = None,
    watch: Watch = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Go back to an earlier release: the previous one, N back, or one of a commit."""
    from klepaas.interfaces.cli.server import ask
    from klepaas.interfaces.cli.submission import submit
    from klepaas.interfaces.cli.waiting import wishes

    screen = Screen(as_json=as_json, quiet=quiet, verbose=verbose)
    wanted = None if no_wait else wishes(screen, timeout, watch=watch)
    fields = {**_where_to(to), "environment": environment}

    async def run(client: "Client") -> int:
        if candidates:
            return await _list(client, screen, project, environment)
        plan = await client.roll_back(project, dry_run=True, **fields)
        if dry_run:
            screen.json(plan)
            for line in _described(plan):
                screen.line(line)
            return ExitCode.LIVE
        if not yes:
            _agree(screen, plan)
            _still_the_same(plan, await client.roll_back(project, dry_run=True, **fields))
        return await submit(
            client, screen, lambda key: client.roll_back(project, key=key, **fields), key=key, wishes=wanted
        )

    raise typer.Exit(ask(run))


def _where_to(text: str) -> dict[str, Any]:
    if re.fullmatch(r"[0-9]{1,6}", text):
        if int(text) < 1:
            raise Invalid("0 releases back is where it is now.", hint="Give 1 for the previous release.")
        return {"steps_back": int(text)}
    if re.fullmatch(r"[0-9a-fA-F]{7,40}", text):
        return {"commit": text.lower()}
    raise Invalid(
        f"{text[:80]!r} is neither a number of releases nor a commit.",
        hint="Give e.g. 1 for the previous release, or at least 7 digits of a commit.",
    )


async def _list(client: "Client", screen: Screen, project: str, environment: str | None) -> int:
    found = await client.candidates(project, environment=environment)
    screen.json({"candidates": found})
    rows = [
        [
            _back(each),
            f"#{each['number']}",
            words.commit(each["commit_sha"]),
            each["released_at"][:16].replace("T", " "),
            "-" if each["is_current"] else WAYS.get(each["way"], each["way"]),
            words.one_line(each["commit_message"], 50),
        ]
        for each in found
    ]
    styles = ["green" if each["is_current"] else "" for each in found]
    screen.table(["BACK", "RELEASE", "COMMIT", "RELEASED (UTC)", "HOW", "MESSAGE"], rows, styles)
    possible = [each for each in found if not each["is_current"] and each["way"] not in {"none", "unknown"}]
    return ExitCode.LIVE if possible else ExitCode.NOT_FOUND


def _back(candidate: dict[str, Any]) -> str:
    """How far back it is; a release that was rolled back is newer than the live one and is reached by its commit."""
    if candidate["is_current"]:
        return "live"
    return str(candidate["steps_back"]) if candidate["steps_back"] > 0 else "newer"


def _agree(screen: Screen, plan: dict[str, Any]) -> None:
    """Errors: Invalid when nobody can be asked, Conflict when the answer is no."""
    if not screen.can_ask:
        raise Invalid(
            "A rollback wants a yes, and there is no terminal to ask at.",
            hint="Look first with --dry-run, then answer with --yes.",
        )
    for line in _described(plan):
        screen.console.print(words.harmless(line))
    if not screen.confirm("Roll back?"):
        raise Conflict("Not rolled back: the answer was not yes.", hint="Nothing was touched.")


def _still_the_same(shown: dict[str, Any], now: dict[str, Any]) -> None:
    """What was agreed to is what was shown. Errors: Conflict when something was released meanwhile."""
    if _essence(shown) != _essence(now):
        raise Conflict(
            "Something was released while you looked at the plan; nothing was rolled back.",
            hint="Look at the new plan: run the same command again.",
        )


def _essence(plan: dict[str, Any]) -> tuple[Any, ...]:
    current = plan.get("current") or {}
    return plan["candidate"]["release_id"], current.get("id"), plan["goes_back"], plan["variables_differ"]


def _described(plan: dict[str, Any]) -> list[str]:
    """The plan in lines: where it goes, how, and which settings go back or stay."""
    candidate, current = plan["candidate"], plan.get("current")
    lines = [f"{plan['project']['name']} in {plan['environment']}:"]
    if current:
        lines.append(f"  from   release #{current['number']}, commit {words.commit(current['commit_sha'])}")
    message = words.one_line(candidate.get("commit_message"), 60)
    lines += [
        f"  to     release #{candidate['number']}, commit {words.commit(candidate['commit_sha'])}"
        + (f" “{message}”" if message else ""),
        f"  how    {WAYS.get(candidate['way'], candidate['way'])}",
    ]
    lines += [
        f"  back   {name}: {_value(change['now'])} → {_value(change['then'])}"
        for name, change in sorted(plan["goes_back"].items())
    ] or ["  back   no setting differs"]
    lines += _variables(plan)
    lines.append(f"  stay   {', '.join(plan['stays'])}")
    return lines


def _variables(plan: dict[str, Any]) -> list[str]:
    added, removed = plan["variables_added"], plan["variables_removed"]
    changes = [f"+{name}" for name in added] + [f"-{name}" for name in removed]
    if plan["variables_differ"] and not changes:
        changes = ["the same names, other values"]
    return [f"  back   environment variables: {', '.join(changes)}"] if changes else []


def _value(value: Any) -> str:
    return "unset" if value is None else str(value)

"""`klepaas status`: how everything stands, how one project stands, or how one deployment goes."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from klepaas.interfaces.cli import words
from klepaas.interfaces.cli.exit_codes import BY_HEALTH, ExitCode
from klepaas.interfaces.cli.options import Environment, Json, Quiet, Timeout, Verbose, Watch
from klepaas.interfaces.cli.screen import Screen

if TYPE_CHECKING:
    from klepaas.client import Client

AT_ONCE = 8
"""Projects asked for at the same time."""


def status(
    what: Annotated[
        str | None, typer.Argument(metavar="[PROJECT|DEPLOYMENT]", help="Default: every project of yours.")
    ] = None,
    environment: Environment = None,
    watch: Watch = False,
    timeout: Timeout = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show how projects stand; with --watch, follow the deployment that is under way."""
    from klepaas.interfaces.cli.server import ask
    from klepaas.interfaces.cli.waiting import Attendance, wishes

    screen = Screen(as_json=as_json, quiet=quiet, verbose=verbose)
    wanted = wishes(screen, timeout, watch=watch)

    async def run(client: "Client") -> int:
        if what is None:
            return await _everything(client, screen)
        if words.is_deployment(what):
            deployment = await client.deployment(what)
            if deployment.get("imported"):
                return _past(screen, deployment)
            return await follow(client, deployment) if watch else _deployment(screen, deployment)
        found = await client.status(what, environment=environment)
        if watch and found["active"]:
            return await follow(client, found["active"][-1])
        screen.json(found)
        _show(screen, found)
        return code_of(found)

    async def follow(client: "Client", deployment: dict[str, Any]) -> int:
        return await Attendance(client, deployment, screen).until_over(wanted)

    raise typer.Exit(ask(run))


def code_of(found: dict[str, Any]) -> ExitCode:
    """0 only when something is live and was seen healthy."""
    if found["live"] is None:
        return ExitCode.NOT_FOUND
    return BY_HEALTH.get(found["health"], ExitCode.FAILED)


async def _everything(client: "Client", screen: Screen) -> int:
    projects = await client.projects()
    gate = asyncio.Semaphore(AT_ONCE)

    async def stand(project: dict[str, Any]) -> dict[str, Any]:
        async with gate:
            return await client.status(project["id"])

    all_found = await asyncio.gather(*(stand(project) for project in projects))
    screen.json({"projects": all_found})
    if not all_found:
        screen.say("No projects yet. Begin with: klepaas projects create owner/repo")
        return ExitCode.LIVE
    now = datetime.now(UTC)
    rows = [
        [
            found["project"]["name"],
            found["environment"],
            _word(found),
            words.commit((found["live"] or {}).get("release", {}).get("commit_sha")),
            words.ago((found["last"] or {}).get("created_at"), now),
            (found["urls"] or ["-"])[0],
        ]
        for found in all_found
    ]
    styles = [words.STATUS_STYLE.get(_word(found), "") for found in all_found]
    screen.table(["PROJECT", "ENVIRONMENT", "HEALTH", "COMMIT", "LAST DEPLOYED", "URL"], rows, styles)
    return ExitCode.LIVE


def _word(found: dict[str, Any]) -> str:
    return "not deployed" if found["live"] is None else str(found["health"])


def _show(screen: Screen, found: dict[str, Any]) -> None:
    """In the order of the deployment page: what is live, what is under way, what was seen."""
    now = datetime.now(UTC)
    project, live = found["project"], found["live"]
    screen.line(f"{project['name']} · {found['environment']} · {project['target']}", "bold")
    seen = f", seen {words.ago(found['observed_at'], now)}" if found["observed_at"] else ""
    detail = f": {words.one_line(found['health_detail'], 120)}" if found["health_detail"] else ""
    screen.line(f"health      {_word(found)}{detail}{seen}", words.STATUS_STYLE.get(_word(found), ""))
    if live is not None:
        _show_live(screen, live, now)
    for url in found["urls"]:
        screen.line(f"url         {url}")
    for deployment in found["active"]:
        stage = f", {deployment['stage']}" if deployment["stage"] else ""
        screen.line(f"under way   #{deployment['number']} {deployment['id']}: {deployment['status']}{stage}", "cyan")
    last = found["last"]
    if last is not None and last["status"] in {"failed", "rolled_back_automatically"}:
        why = words.one_line((last.get("failure") or {}).get("message"), 120)
        screen.line(f"last try    #{last['number']} {last['id']} {last['status']}: {why}", "red")
    for change in found["changes"][:3]:
        action = f", {change['action']}" if change["action"] else ""
        screen.line(f"watched     {words.ago(change['at'], now)}: {change['health']} {change['detail']}{action}", "dim")


def _show_live(screen: Screen, live: dict[str, Any], now: datetime) -> None:
    release, deployment = live["release"], live["deployment"] or {}
    message = words.one_line(deployment.get("commit_message"), 60)
    screen.line(f"release     #{release['number']} {words.digest(release['image_digest'])}")
    by = f" by {words.one_line(deployment.get('commit_author'), 40)}" if deployment.get("commit_author") else ""
    screen.line(f"commit      {words.commit(release['commit_sha'])} {message}{by}".rstrip())
    if deployment:
        since = words.ago(deployment.get("live_at"), now)
        screen.line(f"deployed    {since}, {words.cause(deployment)}")
        _show_note(screen, deployment)


def _show_note(screen: Screen, deployment: dict[str, Any]) -> None:
    if deployment.get("note"):
        screen.line(f"note        {words.one_line(deployment['note'], 200)}")


def _deployment(screen: Screen, deployment: dict[str, Any]) -> int:
    from klepaas.interfaces.cli import outcome

    screen.json(deployment)
    screen.line(outcome.heading(deployment), "bold")
    for stage in deployment["stages"]:
        note = f"  {words.one_line(stage['detail'])}" if stage["detail"] else ""
        screen.line(f"  {stage['stage']:<8}{words.duration(stage['took_s']):>10}{note}")
    screen.line(f"status      {deployment['status']}", words.STATUS_STYLE.get(deployment["status"], ""))
    screen.line(f"cause       {words.cause(deployment)}")
    _show_note(screen, deployment)
    if deployment["status"] in {"queued", "running"}:
        screen.say(f"Follow it: klepaas status {deployment['id']} --watch")
        return ExitCode.LIVE
    return outcome.report(screen, deployment)


def _past(screen: Screen, deployment: dict[str, Any]) -> int:
    """A deployment of an older system: what its row said, and who says how it ended."""
    from klepaas.interfaces.cli import outcome

    screen.json(deployment)
    imported = deployment["imported"]
    what = f"{outcome.name(deployment)} by an older system ({deployment['id']})"
    screen.line(f"{what}: {words.commit(deployment['commit_sha'])}", "bold")
    screen.line(f"status      {deployment['status']}", words.STATUS_STYLE.get(deployment["status"], ""))
    screen.line(f"known from  {imported['settled_by']}: {words.one_line(imported['reason'], 200)}")
    screen.line(f"made        {words.ago(deployment['created_at'], datetime.now(UTC))}")
    screen.line(f"row         {words.one_line(imported['old_id'], 40)} of {words.one_line(imported['source'], 80)}")
    for finding in imported["findings"]:
        screen.line(f"row was     {words.one_line(finding, 200)}", "yellow")
    if deployment["status"] == "unknown":
        screen.say("To ask once more how it ended, import again: klepaas history import --from …")
    return outcome.code_of(deployment)

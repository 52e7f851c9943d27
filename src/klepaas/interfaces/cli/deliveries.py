"""`klepaas github deliveries`: what GitHub told, what came of it, and deciding it once more."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from klepaas.interfaces.cli import words
from klepaas.interfaces.cli.options import Json, Quiet, hand_down
from klepaas.interfaces.cli.screen import Screen

app = typer.Typer(help="Webhooks that came from GitHub.", no_args_is_help=False)

DeliveryId = Annotated[str, typer.Argument(metavar="ID", help="As shown by: klepaas github deliveries")]
Project = Annotated[str | None, typer.Option("--project", "-p", help="Only those that meant something for it.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many, newest first.")]
Before = Annotated[int | None, typer.Option(help="Go on below this number.")]


@app.callback(invoke_without_command=True)
def deliveries(context: typer.Context, as_json: Json = False, quiet: Quiet = False) -> None:
    """List deliveries, newest first, with what came of each."""
    hand_down(context, as_json=as_json, quiet=quiet)
    if context.invoked_subcommand is None:
        show_all(as_json=as_json, quiet=quiet)


@app.command("list")
def show_all(
    project: Project = None, limit: Limit = 20, before: Before = None, as_json: Json = False, quiet: Quiet = False
) -> None:
    """List deliveries, newest first, with what came of each."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    found = ask(lambda client: client.deliveries(project=project, before=before, limit=limit))
    screen.json(found)
    if not found["deliveries"]:
        screen.say("No deliveries. How klepaas stands with GitHub: klepaas github status")
        return
    now = datetime.now(UTC)
    rows = [
        [
            each["id"],
            words.one_line(each["event"], 30),
            words.one_line(each["repository"] or "-", 40),
            words.ago(each["received_at"], now),
            _outcome(each),
        ]
        for each in found["deliveries"]
    ]
    screen.table(["ID", "EVENT", "REPOSITORY", "CAME", "OUTCOME"], rows)
    if found["next_before"]:
        screen.say(f"More: klepaas github deliveries list --before {found['next_before']}")


@app.command()
def show(delivery: DeliveryId, as_json: Json = False, quiet: Quiet = False) -> None:
    """Show one delivery, what was decided for each project, and to the operator its body."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    found = ask(lambda client: client.delivery(delivery))
    screen.json(found)
    _describe(screen, found)
    if found["body"] is not None:
        screen.line("")
        screen.line(found["body"])


@app.command()
def replay(delivery: DeliveryId, as_json: Json = False, quiet: Quiet = False) -> None:
    """Decide a delivery again, by the rules of now. What was started for its commit is not started again."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    made = ask(lambda client: client.replay_delivery(delivery))
    screen.json(made)
    _describe(screen, made)


def _describe(screen: Screen, delivery: dict[str, Any]) -> None:
    now = datetime.now(UTC)
    rows = [
        ["event", words.one_line(delivery["event"])],
        ["repository", words.one_line(delivery["repository"] or "-")],
        ["came", words.ago(delivery["received_at"], now)],
        *([["replay of", delivery["replay_of"]]] if delivery["replay_of"] else []),
        ["decided", words.ago(delivery["decided_at"], now) if delivery["decided_at"] else "not yet"],
    ]
    rows += [[f"for {each['project']}", _decision(each)] for each in delivery["decisions"]]
    if not delivery["decisions"]:
        rows.append(["outcome", _outcome(delivery)])
    screen.table(["DELIVERY", delivery["id"]], rows)


def _outcome(delivery: dict[str, Any]) -> str:
    if delivery["decided_at"] is None:
        return "not decided yet"
    if delivery["decisions"]:
        first, *others = delivery["decisions"]
        more = f" (and {len(others)} more)" if others else ""
        return f"{_decision(first)}{more}"
    answer = delivery["answer"] or {}
    return words.one_line(": ".join(str(answer[name]) for name in ("status", "reason") if answer.get(name))) or "-"


def _decision(decision: dict[str, Any]) -> str:
    if decision["deployment_id"]:
        return f"{decision['outcome']}: {decision['deployment_id']} ({words.one_line(decision['reason'])})"
    return f"{decision['outcome']}: {words.one_line(decision['reason'])}"

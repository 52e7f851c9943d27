"""`klepaas projects`: list, show, create, set, remove."""

import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from klepaas.errors import Conflict, Invalid, KlepaasError
from klepaas.interfaces.cli.options import Json, ProjectName, Quiet, Yes, hand_down
from klepaas.interfaces.cli.screen import Screen

if TYPE_CHECKING:
    from klepaas.client import Client

app = typer.Typer(help="Projects: repositories with a place to run.", no_args_is_help=False)

Settings = Annotated[
    list[str] | None, typer.Option("--set", "-s", metavar="NAME=VALUE", help="A setting, e.g. port=3000. Repeatable.")
]


AutoDeploy = Annotated[
    bool | None, typer.Option("--auto-deploy/--no-auto-deploy", help="Deploy what is pushed or released at GitHub.")
]
PushPolicy = Annotated[
    str | None,
    typer.Option(metavar="merges|every_push", help="Which pushes: merged pull requests only (default), or all."),
]
Paths = Annotated[
    list[str] | None,
    typer.Option(
        "--path", metavar="PATTERN", help="Only when such files changed, e.g. 'services/shop/**'. Repeatable."
    ),
]
Releases = Annotated[
    bool | None, typer.Option("--releases/--no-releases", help="Deploy published releases to production (default).")
]
WaitForChecks = Annotated[
    bool | None,
    typer.Option("--wait-for-checks/--no-wait-for-checks", help="Only commits whose checks have all passed."),
]
AfterRollback = Annotated[
    str | None, typer.Option(metavar="deploy|hold", help="What a push does after a rollback. Default: deploy.")
]


WithPipeline = Annotated[
    bool, typer.Option("--with-pipeline", help="Take down what builds and deploys it at its provider, too.")
]

WITH_PIPELINE = {"ncp"}
"""Targets whose projects have a chain at a provider."""
PIPELINE_FIELDS = ("build_project_id", "deploy_project_id", "pipeline_id", "image_repo")


@app.callback(invoke_without_command=True)
def projects(context: typer.Context, as_json: Json = False, quiet: Quiet = False) -> None:
    """List your projects."""
    hand_down(context, as_json=as_json, quiet=quiet)
    if context.invoked_subcommand is None:
        show_all(as_json, quiet)


@app.command("list")
def show_all(as_json: Json = False, quiet: Quiet = False) -> None:
    """List your projects."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    found = ask(lambda client: client.projects())
    screen.json({"projects": found})
    if not found:
        screen.say("No projects yet. Begin with: klepaas projects create owner/repo")
        return
    rows = [[each[name] for name in ("name", "repository", "branch", "environment", "target")] for each in found]
    screen.table(["NAME", "REPOSITORY", "BRANCH", "ENVIRONMENT", "TARGET"], rows)


@app.command()
def show(project: ProjectName, as_json: Json = False, quiet: Quiet = False) -> None:
    """Show a project with all its settings."""
    from klepaas.interfaces.cli.server import ask

    _tell(Screen(as_json=as_json, quiet=quiet), ask(lambda client: client.project(project)))


@app.command()
def create(
    repository: Annotated[str, typer.Argument(help="owner/repo, an https or ssh URL, or a path where klepaas runs.")],
    name: Annotated[str | None, typer.Option(help="Default: the repository's name.")] = None,
    branch: Annotated[str | None, typer.Option("--branch", "-b")] = None,
    environment: Annotated[str | None, typer.Option("--environment", "-e")] = None,
    target: Annotated[str | None, typer.Option(help="Where it runs. Default: local.")] = None,
    connection: Annotated[str | None, typer.Option(help="The connection that opens a private repository.")] = None,
    settings: Settings = None,
    auto_deploy: AutoDeploy = None,
    push_policy: PushPolicy = None,
    path: Paths = None,
    releases: Releases = None,
    wait_for_checks: WaitForChecks = None,
    after_rollback: AfterRollback = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a project of a repository."""
    from klepaas.interfaces.cli.server import ask

    given = {
        "name": name,
        "branch": branch,
        "environment": environment,
        "target": target,
        "connection_id": connection,
        "settings": read_settings(settings),
        "auto_deploy": auto_deploy,
        "rules": _rules(push_policy, path, releases, wait_for_checks, after_rollback),
    }
    screen = Screen(as_json=as_json, quiet=quiet)

    async def run(client: "Client") -> None:
        made = await client.register(repository, **given)
        if made["target"] in WITH_PIPELINE:
            screen.say(f"Registered {made['name']}. Setting up what builds and deploys it at its provider:")
            try:
                made = {**made, "pipeline": await have_pipeline(client, screen, made["name"])}
            except KlepaasError:
                screen.warn(f"The chain is not complete. Go on with: klepaas projects pipeline {made['name']}")
                raise
        _tell(screen, made)
        screen.say(f"Deploy it: klepaas deploy {made['name']}")

    ask(run)


@app.command()
def pipeline(project: ProjectName, as_json: Json = False, quiet: Quiet = False) -> None:
    """Set up or repair what builds and deploys a project at its provider."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)

    async def run(client: "Client") -> None:
        found = await have_pipeline(client, screen, project)
        screen.json(found)
        if not found["changes"]:
            screen.say("Everything is as it should be; nothing was changed.")
        screen.table(["WHAT", "VALUE"], [[name, str(found[name])] for name in PIPELINE_FIELDS])

    ask(run)


@app.command("set")
def change(
    project: ProjectName,
    settings: Annotated[list[str] | None, typer.Argument(metavar="[NAME=VALUE]…", help="E.g. port=3000.")] = None,
    branch: Annotated[str | None, typer.Option("--branch", "-b")] = None,
    repository: Annotated[str | None, typer.Option(help="Drops the connection unless one is named too.")] = None,
    connection: Annotated[str | None, typer.Option(help="Another connection; '' takes it away.")] = None,
    auto_deploy: AutoDeploy = None,
    push_policy: PushPolicy = None,
    path: Paths = None,
    releases: Releases = None,
    wait_for_checks: WaitForChecks = None,
    after_rollback: AfterRollback = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Change settings of a project; they apply from the next deployment on. NAME= (empty) unsets one."""
    from klepaas.interfaces.cli.server import ask

    given = {
        "branch": branch,
        "repository": repository,
        "connection_id": connection,
        "settings": read_settings(settings),
        "auto_deploy": auto_deploy,
        "rules": _rules(push_policy, path, releases, wait_for_checks, after_rollback),
    }
    if not any(value is not None for value in given.values()):
        raise Invalid("Nothing to change was given.", hint=f"Give e.g.: klepaas projects set {project} port=3000")
    screen = Screen(as_json=as_json, quiet=quiet)
    _tell(screen, ask(lambda client: client.configure(project, **given)))
    screen.say(f"It applies from the next deployment on: klepaas deploy {project}")


@app.command()
def remove(
    project: ProjectName,
    with_pipeline: WithPipeline = False,
    yes: Yes = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Take a project and everything it runs away; its history stays."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)

    async def run(client: "Client") -> None:
        found = await client.project(project)
        chain = " Its chain at the provider is taken down, too; images stay." if with_pipeline else ""
        if not yes:
            agree(
                screen,
                f"Removing {found['name']} stops what it runs and frees its address.{chain}",
                f"Remove {found['name']}?",
            )
        await client.retire(found["id"], with_pipeline=with_pipeline)
        screen.json({"removed": found["id"], "name": found["name"]})
        screen.say(f"Removed {found['name']}; its history stays.")
        if found["target"] in WITH_PIPELINE and not with_pipeline:
            screen.say("Its chain at the provider still stands; a new project of the same repository takes it up.")

    ask(run)


async def have_pipeline(client: "Client", screen: Screen, project: str) -> dict[str, Any]:
    """Tell each thing that is changed, as it is."""
    last: dict[str, Any] = {}
    async with aclosing(client.ensure_pipeline(project)) as messages:
        async for message in messages:
            last = message.data
            if not message.is_last:
                screen.say(f"  {last['text']}")
    return last


def _rules(
    push_policy: str | None,
    paths: list[str] | None,
    releases: bool | None,
    wait_for_checks: bool | None,
    after_rollback: str | None,
) -> dict[str, Any] | None:
    """Those that were named; `--path ''` takes all patterns away."""
    chosen = {
        "pushes": push_policy,
        "paths": [each for each in paths if each] if paths else None,
        "releases": releases,
        "wait_for_checks": wait_for_checks,
        "after_rollback": after_rollback,
    }
    return {name: value for name, value in chosen.items() if value is not None} or None


def agree(screen: Screen, plan: str, question: str) -> None:
    """Show what a destructive verb will do and ask. Errors: Invalid without a terminal, Conflict for a no."""
    want_terminal(screen, plan)
    screen.console.print(plan)
    if not screen.confirm(question):
        raise Conflict("Not done: the answer was not yes.", hint="Nothing was touched.")


def want_terminal(screen: Screen, plan: str) -> None:
    """Errors: Invalid when nobody can be asked."""
    if not screen.can_ask:
        raise Invalid(f"{plan} It wants a yes, and there is no terminal to ask at.", hint="Answer with --yes.")


def read_settings(pairs: list[str] | None) -> dict[str, Any] | None:
    """`port=3000`, `hosts=a.example.org,b.example.org`; JSON is understood, an empty value unsets. Errors: Invalid."""
    if not pairs:
        return None
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise Invalid(f"{pair[:80]!r} is not a setting.", hint="Give NAME=VALUE, e.g. port=3000.")
        settings[name] = [host for host in value.split(",") if host] if name == "hosts" else _value(value)
    return settings


def _value(text: str) -> Any:
    if not text:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float | bool | None) else text


def _tell(screen: Screen, project: dict[str, Any]) -> None:
    screen.json(project)
    rows = [[name, str(project[name])] for name in ("name", "id", "repository", "branch", "environment", "target")]
    if project["connection_id"]:
        rows.append(["connection", project["connection_id"]])
    rows.append(["auto deploy", "on" if project["auto_deploy"] else "off"])
    if project["auto_deploy"]:
        rows += [[f"  {name}", _shown(value)] for name, value in project.get("rules", {}).items()]
    rows += [[name, _shown(value)] for name, value in project["settings"].items()]
    screen.table(["SETTING", "VALUE"], rows)


def _shown(value: Any) -> str:
    match value:
        case None:
            return "-"
        case list():
            return ", ".join(str(item) for item in value) or "-"
        case _:
            return str(value)

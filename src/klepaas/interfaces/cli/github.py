"""`klepaas github`: connect klepaas with GitHub, by an App of its own or by a token, and see how it stands."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from klepaas.errors import Conflict, Invalid
from klepaas.interfaces.cli import deliveries, secret, words
from klepaas.interfaces.cli.options import Json, Quiet, Yes, hand_down
from klepaas.interfaces.cli.projects import agree
from klepaas.interfaces.cli.screen import Screen

if TYPE_CHECKING:
    from klepaas.client import Client

app = typer.Typer(help="GitHub: connect it, see how it stands.", no_args_is_help=False)
app.add_typer(deliveries.app, name="deliveries")

LOOK_EVERY_S = 3.0
WAIT_FOR_INSTALLATION_S = 600.0


@app.callback(invoke_without_command=True)
def github(context: typer.Context, as_json: Json = False, quiet: Quiet = False) -> None:
    """Show how klepaas stands with GitHub."""
    hand_down(context, as_json=as_json, quiet=quiet)
    if context.invoked_subcommand is None:
        status(as_json, quiet)


@app.command()
def status(as_json: Json = False, quiet: Quiet = False) -> None:
    """Show the App, where it is installed, and whether webhooks can be taken."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)

    async def look(client: "Client") -> tuple[dict[str, Any], list[dict[str, Any]]]:
        return await client.github(), await client.connections()

    found, connections = ask(look)
    screen.json(found)
    app_name = f"{found['app']['slug'] or found['app']['app_id']} (by {found['app_from']})" if found["app"] else "none"
    rows = [
        ["github", found["github_url"]],
        ["app", app_name],
        ["webhooks to", found["webhook_url"] or "nowhere: KLEPAAS_PUBLIC_URL is not set"],
        ["webhook secret", ", ".join(found["webhook_secrets"]) or "none: no webhook is taken"],
    ]
    names = {each["installation_id"]: each["name"] for each in connections if each["installation_id"]}
    rows += [["installed on", _installed(each, names)] for each in found["installations"]]
    screen.table(["GITHUB", ""], rows)
    if found["problem"]:
        screen.warn(found["problem"])
    if not found["app"]:
        screen.say("Connect it: klepaas github connect")


@app.command()
def connect(
    name: Annotated[str | None, typer.Argument(help="Of the connection. Default: the account's name.")] = None,
    token_stdin: Annotated[bool, typer.Option("--token-stdin", help="Take a token from stdin, make no App.")] = False,
    server: Annotated[str | None, typer.Option(help="With a token: a GitHub Enterprise Server it is for.")] = None,
    installation: Annotated[str | None, typer.Option(help="Connect this installation of the App.")] = None,
    owner: Annotated[str | None, typer.Option(help="For the operator: whose connection it is.")] = None,
    organization: Annotated[str | None, typer.Option(help="Make the App for this organization.")] = None,
    app_name: Annotated[str | None, typer.Option(help="Of a new App. Default: made from klepaas's address.")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only show the addresses to open.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Connect an account of GitHub, step by step: make the App when there is none, install it, keep the connection.

    With --token-stdin a personal access token is taken instead; it needs to read contents and metadata, and to write
    commit statuses, deployments and pull requests."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    if token_stdin:
        made = _connect_token(name, server)
    else:
        if server is not None:
            raise Invalid("An App belongs to the GitHub of this klepaas.", hint="Give --server with --token-stdin.")

        async def guided(client: "Client") -> dict[str, Any]:
            await _ensure_app(client, screen, organization, app_name, opens=not no_browser)
            found = installation or await _new_installation(client, screen, opens=not no_browser)
            chosen = name or await _account(client, found)
            return await client.add_connection(chosen, kind="github_app", installation_id=found, owner=owner)

        made = ask(guided)
    screen.json(made)
    screen.line(made["id"])
    screen.say(f"Connected {made['account']} as {made['name']}.", "green")
    screen.say(f"Use it: klepaas projects create owner/repo --connection {made['name']} --auto-deploy")


@app.command()
def forget(yes: Yes = False, as_json: Json = False, quiet: Quiet = False) -> None:
    """Forget the App that was made here; at GitHub it stays until it is deleted there."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    if not yes:
        plan = "Its key is lost: no connection of the App works any more, and no webhook of it is taken."
        agree(screen, plan, "Forget the GitHub App?")
    ask(lambda client: client.forget_app())
    screen.json({"forgotten": True})
    screen.say("Forgotten. Delete it at GitHub as well.")


def _connect_token(name: str | None, server: str | None) -> dict[str, Any]:
    from klepaas.interfaces.cli.server import ask

    token = secret.read("Token: ").strip()
    chosen = name or "github"
    return ask(lambda client: client.add_connection(chosen, token, kind="github_token", server=server))


async def _ensure_app(
    client: "Client", screen: Screen, organization: str | None, name: str | None, *, opens: bool
) -> None:
    from klepaas.interfaces.cli import manifest_page

    if (await client.github())["app"] is not None:
        return
    with manifest_page.Page() as page:
        told = await client.app_manifest(page.made_url, name=name, organization=organization)
        if "hook_attributes" not in told["manifest"]:
            screen.warn("KLEPAAS_PUBLIC_URL is not set, so the App gets no webhooks: pushes are found by looking.")
        page.offer(told["post_to"], told["manifest"])
        screen.say("1. Make the App. Open this and confirm at GitHub:")
        screen.say(f"   {page.url}")
        if opens:
            manifest_page.open_in_browser(page.url)
        code = await page.code()
    made = await client.adopt_app(code)
    screen.say(f"   Made the App {made['slug']}; its key is sealed.", "green")


async def _new_installation(client: "Client", screen: Screen, *, opens: bool) -> str:
    """The one installation that has no connection yet, waited for when there is none. Errors: Conflict for several."""
    import asyncio

    from klepaas.interfaces.cli import manifest_page

    told = False
    for _ in range(int(WAIT_FOR_INSTALLATION_S / LOOK_EVERY_S)):
        found = await client.github()
        if found["problem"]:
            raise Conflict(found["problem"], hint="See: klepaas github status")
        used = {each["installation_id"] for each in await client.connections()}
        fresh = [each for each in found["installations"] if each["id"] not in used and not each["suspended"]]
        if len(fresh) > 1:
            names = ", ".join(f"{each['id']} ({each['account']})" for each in fresh)
            raise Conflict(f"The App is installed on several accounts: {names}.", hint="Choose one: --installation ID")
        if fresh:
            return str(fresh[0]["id"])
        if not told:
            url = f"{found['app']['html_url']}/installations/new" if found["app"]["html_url"] else found["github_url"]
            screen.say("2. Install it on the account whose repositories klepaas is to deploy:")
            screen.say(f"   {url}")
            if opens:
                manifest_page.open_in_browser(url)
            told = True
        await asyncio.sleep(LOOK_EVERY_S)
    raise Conflict("The App was not installed.", hint="Install it, then run again: klepaas github connect")


async def _account(client: "Client", installation: str) -> str:
    found = (await client.github())["installations"]
    return next((str(each["account"]) for each in found if each["id"] == installation), "github")


def _installed(installation: dict[str, Any], names: dict[str, str]) -> str:
    connection = names.get(installation["id"])
    return ", ".join(
        [
            f"{words.one_line(installation['account'])} ({installation['repositories']} repositories)",
            f"connection {connection}" if connection else f"no connection: --installation {installation['id']}",
            *(["suspended"] if installation["suspended"] else []),
        ]
    )

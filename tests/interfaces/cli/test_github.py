"""`klepaas github` at a real door of klepaas, with a stand-in GitHub and a browser that says yes."""

import asyncio
import html
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
import structlog

from klepaas.interfaces.cli import github as github_verbs
from klepaas.interfaces.cli import manifest_page
from klepaas.testing.github import StandInGitHub
from tests.interfaces.api.doors import door_of
from tests.interfaces.cli.conftest import Klepaas, Said
from tests.interfaces.cli.double import World as Double
from tests.workflows.world import World, world


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """The server's log of the same process is not what the command says."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


@pytest.fixture
def hub() -> Iterator[StandInGitHub]:
    with StandInGitHub() as stand_in:
        stand_in.create_repository("team/shop", files={"Dockerfile": "FROM scratch\n"})
        yield stand_in


@pytest.fixture
async def here(
    tmp_path: Path, hub: StandInGitHub, command: Klepaas, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """A klepaas without an App, and a command line that is logged in to it as its operator."""
    monkeypatch.setattr(github_verbs, "LOOK_EVERY_S", 0.05)
    url = f"sqlite+aiosqlite:///{tmp_path / 'klepaas.db'}"
    async with world(url, tmp_path, github_url=hub.url, github_api_url=hub.api_url) as made:
        made.context = replace(made.context, public_url="https://klepaas.example.org")
        door = door_of(made)
        async with door.served() as address:
            monkeypatch.setenv("KLEPAAS_URL", address)
            monkeypatch.setenv("KLEPAAS_TOKEN", await door.token())
            yield made


class Browser:
    """Opens what it is shown, presses every button, and follows wherever it is sent."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.asked: list[str] = []

    def open(self, url: str) -> None:
        self.seen.append(url)
        threading.Thread(target=self._browse, args=(url,), daemon=True).start()

    def _browse(self, url: str) -> None:
        with httpx.Client(trust_env=False, follow_redirects=True) as http:
            page = http.get(url, headers={"Accept": "text/html"})
            form = re.search(r'action="([^"]*)".*name="manifest" value="([^"]*)"', page.text, re.DOTALL)
            if form is not None:
                self.asked.append(html.unescape(form[2]))
                http.post(html.unescape(form[1]), data={"manifest": html.unescape(form[2])})


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Browser:
    made = Browser()
    monkeypatch.setattr(manifest_page, "open_in_browser", made.open)
    return made


async def test_connecting_makes_the_app_installs_it_and_keeps_the_connection(
    here: World, hub: StandInGitHub, command: Klepaas, browser: Browser
) -> None:
    said = await asyncio.to_thread(command, "github", "connect", "--organization", "team")

    assert said.code == 0, said.err
    [connection] = await here.context.connections.list(None)
    assert said.out == f"{connection.id}\n"
    assert (connection.name, connection.kind) == ("team", "github_app")
    app = await here.context.github_app.now()
    assert app is not None
    assert json.loads(browser.asked[0])["hook_attributes"]["url"].startswith("https://klepaas.example.org/")
    assert app.private_key.splitlines()[3] not in said.out + said.err
    assert "Connected team as team" in said.err

    shown = await asyncio.to_thread(command, "github", "status")
    assert f"{app.slug} (by manifest)" in shown.out
    assert "team (all repositories), connection team" in shown.out


async def test_connecting_again_only_asks_for_what_is_missing(
    here: World, hub: StandInGitHub, command: Klepaas, browser: Browser
) -> None:
    first = await asyncio.to_thread(command, "github", "connect", "--organization", "team")
    assert first.code == 0, first.err
    app = next(each for each in hub.world.apps.values() if each is not hub.app)
    hub.create_repository("octo/site")
    hub.install("octo", app=app)
    opened = len(browser.seen)

    said: Said = await asyncio.to_thread(command, "github", "connect", "--json")

    assert said.json["account"] == "octo"
    assert len(browser.seen) == opened


async def test_several_new_installations_are_for_the_person_to_choose(
    here: World, hub: StandInGitHub, command: Klepaas, browser: Browser
) -> None:
    await asyncio.to_thread(command, "github", "connect", "--organization", "team")
    app = next(each for each in hub.world.apps.values() if each is not hub.app)
    for account in ("one", "two"):
        hub.create_repository(f"{account}/site")
    first, second = hub.install("one", app=app), hub.install("two", app=app)

    said = await asyncio.to_thread(command, "github", "connect")
    assert said.code == 6
    assert f"{first} (one), {second} (two)" in said.err

    chosen = await asyncio.to_thread(command, "github", "connect", "mine", "--installation", str(second), "--json")
    assert (chosen.json["name"], chosen.json["account"]) == ("mine", "two")


async def test_a_token_is_taken_from_stdin_only(here: World, hub: StandInGitHub, command: Klepaas) -> None:
    """S-05: what stands on a command line can be read by everybody on the machine."""
    token = hub.create_token("dana")

    said = await asyncio.to_thread(command, "github", "connect", "dana", "--token-stdin", stdin=f"{token}\n")
    on_the_line = await asyncio.to_thread(command, "github", "connect", "dana", "--token-stdin", token)

    assert said.code == 0, said.err
    assert "Connected dana as dana" in said.err
    assert token not in said.out + said.err
    assert on_the_line.code == 2


async def test_without_github_the_status_says_how_to_begin(here: World, command: Klepaas) -> None:
    said = await asyncio.to_thread(command, "github")

    assert "app             none" in said.out
    assert "klepaas github connect" in said.err


@pytest.mark.parametrize("line", ["github --json deliveries list", "github --json deliveries", "github --json status"])
async def test_what_is_said_to_a_group_is_said_to_its_verb(here: World, command: Klepaas, line: str) -> None:
    said: Said = await asyncio.to_thread(command, *line.split())

    assert set(said.json) & {"deliveries", "github_url"}


async def test_a_forgotten_app_is_gone(here: World, command: Klepaas, browser: Browser) -> None:
    await asyncio.to_thread(command, "github", "connect", "--organization", "team")

    assert (await asyncio.to_thread(command, "github", "forget")).code == 2, "it wants a yes"
    assert (await asyncio.to_thread(command, "github", "forget", "--yes")).code == 0
    assert await here.context.github_app.now() is None


async def test_only_who_was_sent_from_here_is_taken_back() -> None:
    """A page elsewhere could send the browser here with a code of somebody else's App."""
    with manifest_page.Page() as page:
        page.offer("https://github.com/settings/apps/new", {"name": '"><script>'})
        async with httpx.AsyncClient(trust_env=False) as http:
            form = (await http.get(page.url)).text
            state = re.search(r"state=([\w-]+)", form)
            assert state is not None
            assert "<script>" not in form
            wrong = [
                await http.get(page.made_url, params={"code": "theirs", **more})
                for more in ({}, {"state": ""}, {"state": "x"}, {"state": "é"})
            ]
            foreign = await http.get(page.url, headers={"Host": "evil.test"})
            right = await http.get(f"{page.made_url}?{urlencode({'code': 'ours', 'state': state[1]})}")

        assert [answer.status_code for answer in wrong] == [400] * 4
        assert foreign.status_code == 404
        assert state[1] not in foreign.text
        assert right.status_code == 200
        assert await page.code() == "ours"


def test_rules_of_a_project_are_options(klepaas: Klepaas, world: Double) -> None:
    said = klepaas(
        *("projects", "create", "octo/shop", "--auto-deploy", "--push-policy", "every_push", "--path", "services/**"),
        *("--path", "!docs/**", "--no-releases", "--wait-for-checks", "--after-rollback", "hold"),
    )
    klepaas("projects", "set", "good", "--no-auto-deploy", "--path", "")
    klepaas("projects", "set", "good", "port=3000")

    assert said.code == 0
    [made] = world.sent("POST", "projects")
    assert made["auto_deploy"] is True
    assert made["rules"] == {
        "pushes": "every_push",
        "paths": ["services/**", "!docs/**"],
        "releases": False,
        "wait_for_checks": True,
        "after_rollback": "hold",
    }
    changes = world.sent("PATCH", "projects/good")
    assert changes == [{"auto_deploy": False, "rules": {"paths": []}}, {"settings": {"port": 3000}}]


def test_a_project_shows_whether_it_deploys_by_itself(klepaas: Klepaas) -> None:
    assert "auto deploy" in klepaas("projects", "show", "good").out

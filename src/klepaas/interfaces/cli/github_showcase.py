"""The way of the demo with GitHub: a private repository, a merged pull request, what GitHub says of it, and back.

GitHub is a stand-in on this machine; everything else is as with the real one."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from klepaas.errors import NotHealthy
from klepaas.interfaces.cli import child, last_word, showing, team, words
from klepaas.interfaces.cli.sample import Sample
from klepaas.interfaces.cli.screen import Screen
from klepaas.interfaces.cli.showcase import NAME, klepaas_of, passing_home, see_answer
from klepaas.interfaces.cli.showing import Showing
from klepaas.interfaces.cli.submission import Send
from klepaas.interfaces.cli.team import OWNER, REPOSITORY, Team
from klepaas.settings import Settings

AGREES_WITHIN_S = 60.0
"""GitHub is told within a few seconds; longer when it did not answer and is asked again."""


async def show(
    settings: Settings, environment: Mapping[str, str], screen: Screen, port: int | None, *, stays: bool
) -> int:
    """The whole way in a home of its own, which is gone afterwards like everything that ran. The last line says how
    it went. `stays`: what runs can be looked at until Ctrl-C."""

    async def go() -> str:
        async with (
            passing_home("github", settings, team.without_settings(environment), screen) as (own, surroundings),
            AsyncExitStack() as stack,
        ):
            screen.say("Starting a stand-in GitHub …")
            github = await stack.enter_async_context(team.serving(own.home, surroundings))
            at = port or child.any_port()
            known = {**surroundings, **team.settings_of(github), "KLEPAAS_PUBLIC_URL": f"http://127.0.0.1:{at}"}
            client, server = await stack.enter_async_context(klepaas_of(own, known, screen, at, passing=True))
            people = Team(github, screen, own.home / "demo" / NAME, surroundings)
            way = _Way(people, Showing(client, screen))
            await way.go()
            if stays and server is not None:
                _say_where(screen, people, way.url)
                await showing.until_looked_at(screen, server)
            await client.retire(NAME)
        return (
            f"a merged pull request put version {people.second.version} live and a rollback brought version "
            f"{people.first.version} back; GitHub says so too; everything is gone again"
        )

    return await last_word.told(screen, go)


@dataclass
class _Way:
    """What happens in the demo, in order."""

    team: Team
    showing: Showing
    url: str = ""

    async def go(self) -> None:
        """Errors: KlepaasError, DidNotGetLive."""
        client, screen, team = self.showing.client, self.showing.screen, self.team
        await team.begin(client)
        await client.register(REPOSITORY, name=NAME, connection_id=OWNER, auto_deploy=True)
        screen.say(f"Registered the project {NAME}: what is merged to main is deployed.")
        await self._put_live(lambda key: client.deploy(NAME, key=key), team.first)
        merged = await team.merge()
        await self.showing.follow(await self.showing.deployment_of(merged))
        await see_answer(self.url, team.second.version)
        await self._see_github_say(merged, f"live at {self.url}")
        screen.say()
        screen.say("Rolling back …", style="bold")
        await self._put_live(lambda key: client.roll_back(NAME, key=key, steps_back=1), team.first)
        await self._see_github_say(team.first.commit_sha, "not running any more")

    async def _put_live(self, send: Send, app: Sample) -> None:
        await self.showing.put_live(send)
        self.url = (await self.showing.client.status(NAME))["urls"][0]
        await see_answer(self.url, app.version)

    async def _see_github_say(self, live: str, comment: str) -> None:
        """Wait until GitHub shows this commit, and only it, as live, and says so at the pull request; show all it
        says. Errors: NotHealthy when it does not come to agree."""
        github, number, deadline = self.team.github, self.team.pull_request, time.monotonic() + AGREES_WITHIN_S
        while True:
            told = await github.do("deployments", REPOSITORY)
            statuses = await github.do("statuses", REPOSITORY, sha=live)
            comments = await github.do("comments", REPOSITORY, number=number)
            active = [each["sha"] for each in told if _state(each) == "success"]
            said = [each["body"] for each in comments]
            if active == [live] and _state({"statuses": statuses}) == "success" and comment in "".join(said):
                break
            if time.monotonic() > deadline:
                raise NotHealthy(
                    f"GitHub does not say that {words.commit(live)} is live.",
                    hint="What it was told: klepaas history sample",
                    evidence={"live at GitHub": active, "comments": said},
                )
            await asyncio.sleep(0.2)
        self._show(told, statuses[-1], said)

    def _show(self, told: list[dict[str, Any]], status: dict[str, Any], said: list[str]) -> None:
        screen = self.showing.screen
        screen.say("What GitHub shows now:", style="bold")
        for each in told:
            states = " → ".join(status["state"] for status in each["statuses"])
            screen.say(f"  deployment of {words.commit(each['sha'])} to {each['environment']}: {states}")
        what = f"{status['context']} {status['state']}, {status['description']}"
        screen.say(f"  status of {words.commit(status['sha'])}: {what}")
        for text in said:
            screen.say(f"  comment at #{self.team.pull_request}: {' '.join(text.split(chr(10))[1:])}")


def _state(deployment: Mapping[str, Any]) -> str:
    statuses = deployment["statuses"]
    return str(statuses[-1]["state"]) if statuses else ""


def _say_where(screen: Screen, people: Team, url: str) -> None:
    screen.say()
    screen.line(url)
    where = f"{people.github.about['url']}/{REPOSITORY}"
    screen.say(f"  {where}   the repository at the stand-in GitHub, with all it was told")

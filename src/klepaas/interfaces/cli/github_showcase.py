"""The way of the demo with GitHub: a private repository, a merged pull request, what GitHub says of it, and back.

GitHub is a stand-in on this machine; everything else is as with the real one."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from klepaas.client import Client
from klepaas.errors import KlepaasError, NotHealthy
from klepaas.interfaces.cli import child, complaint, exit_codes, sample, stand_in, words
from klepaas.interfaces.cli.exit_codes import ExitCode
from klepaas.interfaces.cli.sample import Sample
from klepaas.interfaces.cli.screen import Screen
from klepaas.interfaces.cli.showcase import (
    NAME,
    WithoutData,
    klepaas_of,
    passing_home,
    see_answer,
    until_interrupted_or_ended,
)
from klepaas.interfaces.cli.stand_in import StandIn
from klepaas.interfaces.cli.submission import submit
from klepaas.interfaces.cli.waiting import Attendance, Wishes
from klepaas.settings import Settings

OWNER, REPOSITORY = "team", f"team/{NAME}"
WEBHOOKS = "/api/v1/cicd/webhook"
ARRIVES_WITHIN_S = 30.0
"""A webhook leads to a deployment within a second; the branch watch would find the merge within a minute."""
AGREES_WITHIN_S = 60.0
"""GitHub is told within a few seconds; longer when it did not answer and is asked again."""


class _DidNotGetLive(Exception):
    def __init__(self, code: ExitCode) -> None:
        self.code = code


async def show(
    settings: Settings, environment: Mapping[str, str], screen: Screen, port: int | None, *, stays: bool
) -> int:
    """The whole way in a home of its own, which is gone afterwards like everything that ran. The last line says how
    it went. `stays`: what runs can be looked at until Ctrl-C."""
    began = time.monotonic()
    own_words = {key: value for key, value in environment.items() if not key.startswith("KLEPAAS_GITHUB_")}
    try:
        async with (
            passing_home("github", settings, own_words, screen) as (own, surroundings),
            AsyncExitStack() as stack,
        ):
            screen.say("Starting a stand-in GitHub …")
            github = await stack.enter_async_context(stand_in.serving(own.home / "demo" / "github", surroundings))
            port = port or child.any_port()
            known = {**surroundings, **github.settings, "KLEPAAS_PUBLIC_URL": f"http://127.0.0.1:{port}"}
            client, server = await stack.enter_async_context(klepaas_of(own, known, screen, port, passing=True))
            way = _Way(github, client, screen, own, surroundings)
            await way.go()
            if stays and server is not None:
                _say_where(screen, github, way.url)
                await until_interrupted_or_ended(server)
                if server.process.returncode is not None:
                    raise server.fault("The server ended by itself.")
                screen.say("Taking everything away …")
            await client.retire(NAME)
    except KlepaasError as error:
        complaint.complain(screen, error)
        screen.line(f"demo: failed: {error.message}")
        return exit_codes.of_error(error) or ExitCode.FAILED
    except _DidNotGetLive as fault:
        screen.line("demo: failed: a deployment did not get live.")
        return fault.code
    screen.line(
        f"demo: ok: a merged pull request put version {way.second.version} live and a rollback brought version "
        f"{way.first.version} back; GitHub says so too; everything is gone again ({time.monotonic() - began:.1f} s)"
    )
    return ExitCode.LIVE


@dataclass
class _Way:
    """What happens in the demo, in order."""

    github: StandIn
    client: Client
    screen: Screen
    settings: Settings
    environment: Mapping[str, str]
    first: Sample = field(init=False)
    second: Sample = field(init=False)
    pull_request: int = 0
    url: str = ""

    async def go(self) -> None:
        """Errors: KlepaasError, _DidNotGetLive."""
        await self._connect()
        await self._put_live(lambda key: self.client.deploy(NAME, key=key), self.first)
        merged = await self._merge()
        await self._follow(await self._deployment_of(merged))
        await see_answer(self.url, self.second.version)
        await self._see_github_say(merged, f"live at {self.url}")
        self.screen.say()
        self.screen.say("Rolling back …", style="bold")
        await self._put_live(lambda key: self.client.roll_back(NAME, key=key, steps_back=1), self.first)
        await self._see_github_say(self.first.commit_sha, "not running any more")

    async def _connect(self) -> None:
        """A private repository with the app, the App installed there, and a project that deploys by itself."""
        self.first = await sample.prepare(self.settings.home / "demo" / NAME, self.environment)
        await self.github.do("create_repository", full_name=REPOSITORY)
        await self._push(self.first, "main")
        installation = await self.github.do("install", owner=OWNER)
        await self.github.do("send_webhooks_to", url=f"{self.client.url}{WEBHOOKS}")
        self.screen.say(f"A private repository with the sample app is at {self.github.url}/{REPOSITORY}")
        await self.client.add_connection(OWNER, kind="github_app", installation_id=str(installation))
        await self.client.register(REPOSITORY, name=NAME, connection_id=OWNER, auto_deploy=True)
        self.screen.say(f"Registered the project {NAME}: what is merged to main is deployed.")

    async def _push(self, app: Sample, branch: str) -> None:
        token = await self.github.do("create_token", user="dana")
        await sample.push(app, f"{self.github.url}/{REPOSITORY}.git", branch, token=token, environment=self.environment)

    async def _put_live(self, send: Callable[[str], Awaitable[dict[str, Any]]], app: Sample) -> None:
        code = await submit(self.client, self._quieter, send, key=None, wishes=Wishes())
        if code is not ExitCode.LIVE:
            raise _DidNotGetLive(code)
        self.url = (await self.client.status(NAME))["urls"][0]
        await see_answer(self.url, app.version)

    async def _merge(self) -> str:
        """Push a branch with the next version, open its pull request, merge it; the commit on main then."""
        self.second = await sample.change(self.first, f"{self.first.version}.1", self.environment)
        branch = f"version-{self.second.version}"
        await self._push(self.second, branch)
        title = f"Version {self.second.version}"
        self.pull_request = await self.github.do("open_pull", REPOSITORY, branch=branch, title=title)
        merged: str = await self.github.do("merge", REPOSITORY, number=self.pull_request)
        self.screen.say()
        self.screen.say(
            f"dana merged pull request #{self.pull_request} “{title}” ({words.commit(merged)}).", style="bold"
        )
        return merged

    async def _deployment_of(self, commit: str) -> dict[str, Any]:
        """The one the webhook led to. Errors: NotHealthy when none came."""
        deadline = time.monotonic() + ARRIVES_WITHIN_S
        while time.monotonic() < deadline:
            listed: list[dict[str, Any]] = (await self.client.deployments(NAME))["deployments"]
            if found := [each for each in listed if each["commit_sha"] == commit]:
                self.screen.say(f"The webhook arrived: {found[0]['trigger']} by {found[0]['actor']}.")
                return found[0]
            await asyncio.sleep(0.1)
        raise NotHealthy("The merge led to no deployment.", hint="What was decided about it: klepaas github deliveries")

    async def _follow(self, deployment: dict[str, Any]) -> None:
        code = await Attendance(self.client, deployment, self._quieter).until_over(Wishes())
        if code is not ExitCode.LIVE:
            raise _DidNotGetLive(code)

    async def _see_github_say(self, live: str, comment: str) -> None:
        """Wait until GitHub shows this commit, and only it, as live, and says so at the pull request; show all it
        says. Errors: NotHealthy when it does not come to agree."""
        deadline = time.monotonic() + AGREES_WITHIN_S
        while True:
            told = await self.github.do("deployments", REPOSITORY)
            statuses = await self.github.do("statuses", REPOSITORY, sha=live)
            comments = await self.github.do("comments", REPOSITORY, number=self.pull_request)
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
        self.screen.say("What GitHub shows now:", style="bold")
        for each in told:
            states = " → ".join(status["state"] for status in each["statuses"])
            self.screen.say(f"  deployment of {words.commit(each['sha'])} to {each['environment']}: {states}")
        what = f"{status['context']} {status['state']}, {status['description']}"
        self.screen.say(f"  status of {words.commit(status['sha'])}: {what}")
        for text in said:
            self.screen.say(f"  comment at #{self.pull_request}: {' '.join(text.split(chr(10))[1:])}")

    @property
    def _quieter(self) -> Screen:
        return WithoutData(quiet=self.screen.quiet, verbose=self.screen.verbose)


def _state(deployment: Mapping[str, Any]) -> str:
    statuses = deployment["statuses"]
    return str(statuses[-1]["state"]) if statuses else ""


def _say_where(screen: Screen, github: StandIn, url: str) -> None:
    screen.say()
    screen.line(url)
    screen.say(f"  {github.url}/{REPOSITORY:<20} the repository at the stand-in GitHub, with all it was told")
    screen.say("Ctrl-C ends it and takes everything away.")

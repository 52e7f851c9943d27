"""The way of the demo with Naver Cloud: a chain, a merged pull request, what the provider shows of it, and back.

Naver Cloud and GitHub are stand-ins on this machine; images are built by its Docker engine and kept in a registry. The
stand-in's cluster takes what it is told to run and runs nothing. Everything else is as with the real ones."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from klepaas.client import Client
from klepaas.errors import NotHealthy
from klepaas.interfaces.cli import child, last_word, showing, stand_in, team, words
from klepaas.interfaces.cli.naver_view import NaverView
from klepaas.interfaces.cli.projects import have_pipeline
from klepaas.interfaces.cli.screen import Screen
from klepaas.interfaces.cli.showcase import NAME, klepaas_of, passing_home
from klepaas.interfaces.cli.showing import Showing
from klepaas.interfaces.cli.stand_in import StandIn
from klepaas.interfaces.cli.submission import Send
from klepaas.interfaces.cli.team import OWNER, REPOSITORY, Team
from klepaas.settings import Settings

TAKES_TIME = ("--build-time-ms", "100", "--deploy-time-ms", "400")
"""So that one sees the stages."""
LOOKS_OFTEN = {"KLEPAAS_NCP_LOOK_EVERY": "PT0.2S", "KLEPAAS_NCP_CALLS_PER_MINUTE": "1200"}
"""More often than one would ask the real one."""


async def show(
    settings: Settings, environment: Mapping[str, str], screen: Screen, port: int | None, *, stays: bool
) -> int:
    """The whole way in a home of its own, which is gone afterwards like everything that ran. The last line says how
    it went. `stays`: what runs can be looked at until Ctrl-C."""

    async def go() -> str:
        async with (
            passing_home("ncp", _without_account(settings), _without_settings(environment), screen) as (own, known),
            AsyncExitStack() as stack,
        ):
            screen.say("Starting stand-ins of GitHub and of Naver Cloud …")
            github = await stack.enter_async_context(team.serving(own.home, known))
            naver = await stack.enter_async_context(_naver(own, known))
            where = (
                "a docker-registry" if naver.about["has_registry_program"] else "the stand-in: no docker-registry here"
            )
            screen.say(f"Images are built by this machine's engine and kept in {where}; the cluster only takes notes.")
            people = Team(github, screen, own.home / "demo" / NAME, known)
            at = port or child.any_port()
            known = {**known, **team.settings_of(github), "KLEPAAS_PUBLIC_URL": f"http://127.0.0.1:{at}"}
            known = {**known, **naver.about["environment"], **LOOKS_OFTEN}
            client, server = await stack.enter_async_context(klepaas_of(own, known, screen, at, passing=True))
            way = _Way(people, Showing(client, screen), NaverView(naver, screen))
            await way.go()
            if stays and server is not None:
                _say_where(screen, people, naver)
                await showing.until_looked_at(screen, server)
            await way.take_down()
        first, second = people.first.version, people.second.version
        return (
            f"a merged pull request put version {second} live at a stand-in of Naver Cloud, one rollback brought "
            f"version {first} back without a build and another {second} with one; everything is gone again"
        )

    return await last_word.told(screen, go)


@dataclass
class _Way:
    """What happens in the demo, in order."""

    team: Team
    showing: Showing
    view: NaverView

    async def go(self) -> None:
        """Errors: KlepaasError, DidNotGetLive."""
        await self._set_up()
        await self._diagnose()
        await self._live(builds=1, send=lambda key: self._client.deploy(NAME, key=key))
        first = await self._shown()
        await self._live(builds=1, commit=await self.team.merge())
        second = await self._shown()
        await self._diagnose()
        self._announce("Rolling back; the image is there …")
        await self._live(builds=0, send=lambda key: self._client.roll_back(NAME, key=key, steps_back=1))
        if (await self._shown())["image_digest"] != first["image_digest"]:
            raise NotHealthy("The rollback runs another image than the release it went back to.")
        await self._lose_image(second)
        await self._diagnose()
        self._announce("Going to the newer version again; its image is gone, so it is built …")
        commit = second["commit_sha"]
        await self._live(builds=1, send=lambda key: self._client.roll_back(NAME, key=key, commit=commit))
        await self._shown()

    async def take_down(self) -> None:
        """Errors: KlepaasError; NotHealthy when something of the chain is left."""
        self._announce("Taking the chain down …")
        await self._client.retire(NAME, with_pipeline=True)
        if left := (await self.view.seen()).chain:
            raise NotHealthy("Something of the chain was left at Naver Cloud.", evidence={"left": list(left)})

    async def _set_up(self) -> None:
        await self.team.begin(self._client)
        await self._client.register(REPOSITORY, name=NAME, connection_id=OWNER, auto_deploy=True, target="ncp")
        self._say(f"Registered the project {NAME}. Setting up what builds and deploys it at Naver Cloud:")
        await have_pipeline(self._client, self.showing.screen, NAME)

    async def _live(self, *, builds: int, send: Send | None = None, commit: str = "") -> None:
        """A deployment, sent now or led to by the merge of `commit`, to its good end. Errors: NotHealthy when Naver
        Cloud did not build it that often, or deployed it more than once."""
        before = await self.view.seen()
        if send is not None:
            await self.showing.put_live(send)
        else:
            await self.showing.follow(await self.showing.deployment_of(commit))
        after = await self.view.seen()
        runs = len(after.builds) - len(before.builds), len(after.deploys) - len(before.deploys)
        if runs != (builds, 1):
            made = {"builds": runs[0], "deploy runs": runs[1]}
            raise NotHealthy("Naver Cloud was asked for other runs than one would expect.", evidence=made)

    async def _shown(self) -> dict[str, Any]:
        """The live deployment, after a look at all there is. Errors: NotHealthy when the cluster runs another image."""
        listed = (await self._client.deployments(NAME, limit=1))["deployments"]
        live: dict[str, Any] = await self._client.deployment(listed[0]["id"])
        await self.view.show()
        running = list((await self.view.seen()).running)
        if running != [live["image_digest"]]:
            raise NotHealthy(
                "The cluster does not run what klepaas says is live.",
                evidence={"live": live["image_digest"], "running": running},
            )
        self._say(f"klepaas calls it live because: {live['evidence']['answer']['detail']}")
        return live

    async def _diagnose(self) -> None:
        """As older clients ask whether a rollback would work."""
        found = await self._client.diagnose(OWNER, NAME)
        self._say(f"Could it be rolled back? {'yes' if found['ready'] else 'no'}", style="bold")
        for text in (*found["issues"], *found["warnings"]):
            self._say(f"  {text}")

    async def _lose_image(self, deployment: Mapping[str, Any]) -> None:
        for name in (await self.view.seen()).images:
            await self.view.naver.do("delete_image", name=name, tag=deployment["commit_sha"])
            self._announce(f"Somebody deleted {name}:{words.commit(deployment['commit_sha'])} from the registry.")

    @property
    def _client(self) -> Client:
        return self.showing.client

    def _announce(self, text: str) -> None:
        self._say()
        self._say(text, style="bold")

    def _say(self, text: str = "", style: str = "") -> None:
        self.showing.screen.say(text, style=style)


def _naver(own: Settings, environment: Mapping[str, str]) -> stand_in.Serving:
    options = (*TAKES_TIME, "--docker-host", str(own.docker.host))
    return stand_in.serving("Naver Cloud", "ncp", own.home / "demo" / "naver", environment, options)


def _without_settings(environment: Mapping[str, str]) -> Mapping[str, str]:
    kept = team.without_settings(environment)
    return {name: value for name, value in kept.items() if not name.startswith("KLEPAAS_NCP_")}


def _without_account(settings: Settings) -> Settings:
    """A real account is none of the demo's business."""
    ncp = settings.ncp.model_copy(update={"access_key": None, "secret_key": None})
    return settings.model_copy(update={"ncp": ncp})


def _say_where(screen: Screen, people: Team, naver: StandIn) -> None:
    screen.say()
    screen.line(naver.about["control"])
    screen.say("  all that happened at the stand-in of Naver Cloud, as JSON")
    screen.say(f"  {people.github.about['url']}/{REPOSITORY}   the repository at the stand-in GitHub")

"""A team at a stand-in GitHub, for the demos: its private repository with the sample app, and what it merges there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from klepaas.client import Client
from klepaas.interfaces.cli import sample, stand_in, words
from klepaas.interfaces.cli.sample import Sample
from klepaas.interfaces.cli.screen import Screen
from klepaas.interfaces.cli.showcase import NAME
from klepaas.interfaces.cli.stand_in import StandIn

OWNER, REPOSITORY = "team", f"team/{NAME}"
WEBHOOKS = "/api/v1/cicd/webhook"


def settings_of(github: StandIn) -> Mapping[str, str]:
    """What a klepaas has to be told to belong to its App."""
    return {
        "KLEPAAS_GITHUB_URL": github.about["url"],
        "KLEPAAS_GITHUB_APP_ID": str(github.about["app_id"]),
        "KLEPAAS_GITHUB_APP_PRIVATE_KEY": github.about["private_key_pem"],
        "KLEPAAS_GITHUB_APP_WEBHOOK_SECRET": github.about["webhook_secret"],
    }


def without_settings(environment: Mapping[str, str]) -> Mapping[str, str]:
    """The environment without those of a real GitHub."""
    return {key: value for key, value in environment.items() if not key.startswith("KLEPAAS_GITHUB_")}


def serving(home: Path, environment: Mapping[str, str]) -> stand_in.Serving:
    return stand_in.serving("GitHub", "github", home / "demo" / "github", environment)


@dataclass
class Team:
    """`first` and `second` are its two versions of the sample app; each needs a push."""

    github: StandIn
    screen: Screen
    folder: Path
    """Where the sample app is a repository."""
    environment: Mapping[str, str]
    first: Sample = field(init=False)
    second: Sample = field(init=False)
    pull_request: int = 0

    async def begin(self, client: Client) -> None:
        """A private repository with the app, the App installed there, and a connection for it."""
        self.first = await sample.prepare(self.folder, self.environment)
        await self.github.do("create_repository", full_name=REPOSITORY)
        await self._push(self.first, "main")
        installation = await self.github.do("install", owner=OWNER)
        await self.github.do("send_webhooks_to", url=f"{client.url}{WEBHOOKS}")
        self.screen.say(f"A private repository with the sample app is at {self.github.about['url']}/{REPOSITORY}")
        await client.add_connection(OWNER, kind="github_app", installation_id=str(installation))

    async def merge(self) -> str:
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

    async def _push(self, app: Sample, branch: str) -> None:
        token = await self.github.do("create_token", user="dana")
        url = f"{self.github.about['url']}/{REPOSITORY}.git"
        await sample.push(app, url, branch, token=token, environment=self.environment)

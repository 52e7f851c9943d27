"""What the stand-in of Naver Cloud has, as its console would show it: for the demo."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from klepaas.interfaces.cli import words
from klepaas.interfaces.cli.screen import Screen
from klepaas.interfaces.cli.stand_in import StandIn

COMMITS_SHOWN = 2


@dataclass(frozen=True, kw_only=True)
class Seen:
    builds: Sequence[Mapping[str, Any]]
    deploys: Sequence[Mapping[str, Any]]
    """Runs ever started, oldest first."""
    images: Mapping[str, Sequence[str]]
    """Name → tags, in the registry."""
    repositories: Sequence[str]
    projects: Mapping[str, Mapping[str, int]]
    """Kind → name → id."""
    objects: Sequence[Mapping[str, Any]]
    """In the cluster."""

    @property
    def running(self) -> Mapping[str, Sequence[str]]:
        """Digest → pods that are ready with it."""
        found: dict[str, list[str]] = {}
        for pod in (each for each in self.objects if each["kind"] == "Pod"):
            for status in (status for status in pod["status"]["containerStatuses"] if status["ready"]):
                found.setdefault(status["imageID"].rpartition("@")[2], []).append(pod["metadata"]["name"])
        return found

    @property
    def chain(self) -> Sequence[str]:
        """Names of what was made to build and deploy an app."""
        made = [f"{kind} project {name}" for kind, named in self.projects.items() for name in named]
        return [*made, *(f"repository {name}" for name in self.repositories)]


@dataclass(frozen=True)
class NaverView:
    naver: StandIn
    screen: Screen

    async def seen(self) -> Seen:
        """Errors: Unavailable."""
        told = await self.naver.state()
        return Seen(
            builds=told["builds"],
            deploys=told["deploys"],
            images=told["images"],
            repositories=tuple(told["repositories"]),
            projects=told["projects"],
            objects=told["objects"],
        )

    async def show(self) -> None:
        """Errors: Unavailable."""
        seen, say = await self.seen(), self.screen.say
        say("What Naver Cloud shows now:", style="bold")
        for name in seen.repositories:
            for message in (await self.naver.do("messages", name))[:COMMITS_SHOWN]:
                say(f"  SourceCommit   {name}: {words.one_line(message, 90)}")
        if seen.builds:
            last = seen.builds[-1]
            name, _, tag = last["image"].rpartition("/")[2].partition(":")
            pushed = f"{name}:{words.commit(tag)} is {words.digest(last['digest'])}"
            say(f"  SourceBuild    run {len(seen.builds)}: {last['status']}, {pushed}")
        for name, tags in seen.images.items():
            say(f"  registry       {name}: {', '.join(words.commit(tag) for tag in tags)}")
        if seen.deploys:
            say(f"  SourceDeploy   run {len(seen.deploys)}: {seen.deploys[-1]['status']}")
        for digest, pods in seen.running.items():
            say(f"  cluster        {', '.join(pods)}: {words.digest(digest)}")

"""The way of the demo: an engine, a server, a repository, a project, a deployment, an answer."""

import asyncio
import shutil
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from klepaas.client import Client
from klepaas.docker.installation import ReadyEngine, ensure_engine
from klepaas.errors import Conflict, Invalid, KlepaasError, NotAuthenticated, NotHealthy
from klepaas.interfaces.cli import child, credentials, last_word, sample
from klepaas.interfaces.cli.credentials import Login
from klepaas.interfaces.cli.exit_codes import ExitCode
from klepaas.interfaces.cli.last_word import DidNotGetLive
from klepaas.interfaces.cli.sample import Sample
from klepaas.interfaces.cli.screen import Screen
from klepaas.interfaces.cli.submission import submit
from klepaas.interfaces.cli.waiting import Wishes
from klepaas.settings import Settings

NAME = "sample"
LOCAL_REPOSITORIES = "KLEPAAS_LOCAL_REPOSITORIES=true"
"""What a klepaas was started with that takes the sample's repository; it says so when it refuses one."""
ANSWERS_WITHIN_S = 30.0
"""The app answers at once after a deployment; after a reboot the engine may have to bring it back first."""


class WithoutData(Screen):
    """For a deployment inside the demo: stdout is for the demo's own last word."""

    def line(self, text: str, style: str = "") -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The app as it was seen answering."""

    url: str
    sample: Sample


async def until_interrupted(
    settings: Settings, environment: Mapping[str, str], screen: Screen, port: int | None
) -> int:
    """Bring the sample app live in the usual home, then serve until Ctrl-C. Errors: KlepaasError."""
    await _engine(settings, environment, screen)
    async with klepaas_of(settings, environment, screen, port) as (client, server):
        found = await _bring_live(client, settings.home, environment, screen)
        if isinstance(found, ExitCode):
            return found
        _summary(screen, found, client.url, stays=server is not None)
        if server is None:
            return ExitCode.LIVE
        await until_interrupted_or_ended(server)
        if server.process.returncode is not None:
            raise server.fault("The server ended by itself.")
        screen.say("Stopping klepaas …")
    screen.say(f"klepaas has stopped; the app goes on serving at {found.url}. Start again: ./run demo")
    return ExitCode.LIVE


async def once(settings: Settings, environment: Mapping[str, str], screen: Screen, port: int | None) -> int:
    """The whole way in a home of its own, which is gone afterwards like everything that ran. The last line says
    how it went."""

    async def go() -> str:
        async with (
            passing_home("once", settings, environment, screen) as (own, surroundings),
            klepaas_of(own, surroundings, screen, port or child.any_port(), passing=True) as (client, _),
        ):
            found = await _bring_live(client, own.home, surroundings, screen)
            if isinstance(found, ExitCode):
                raise DidNotGetLive(found)
            await client.retire(NAME)
        return f"version {found.sample.version} answered 200 at {found.url}; everything it started is gone again"

    return await last_word.told(screen, go)


@asynccontextmanager
async def passing_home(
    name: str, settings: Settings, environment: Mapping[str, str], screen: Screen
) -> AsyncIterator[tuple[Settings, Mapping[str, str]]]:
    """An engine and a home of its own below the usual one, with the environment for a klepaas there; both name the
    engine. All is gone afterwards, like everything that ran; also after SIGTERM."""
    from klepaas.wiring_down import take_down

    own = settings.model_copy(update={"home": settings.home / name, "database_url": None, "encryption_key": None})
    strange = {"KLEPAAS_DATABASE_URL", "KLEPAAS_ENCRYPTION_KEY"}
    surroundings = {key: value for key, value in environment.items() if key not in strange}
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    engine = await _engine(own, environment, screen)
    try:
        if own.home.exists():  # a run that was killed
            await take_down(own, images=True, say=screen.say)
        docker = own.docker.model_copy(update={"host": engine.host})
        try:
            yield own.model_copy(update={"docker": docker}), {**surroundings, "KLEPAAS_DOCKER__HOST": engine.host}
        finally:
            await take_down(own, images=True, say=screen.say)
            await asyncio.to_thread(shutil.rmtree, own.home)
    finally:
        await engine.stop()


async def _engine(settings: Settings, environment: Mapping[str, str], screen: Screen) -> ReadyEngine:
    return await ensure_engine(
        settings.docker.host,
        settings.docker_host_env,
        user_home=Path.home(),
        state=settings.home,
        environment=environment,
        say=screen.say,
    )


@asynccontextmanager
async def klepaas_of(
    settings: Settings, environment: Mapping[str, str], screen: Screen, port: int | None, *, passing: bool = False
) -> AsyncIterator[tuple[Client, child.Child | None]]:
    """A client that is logged in, to the klepaas of this home that runs, or to one started now.

    `passing`: it will be gone in a moment, and nobody needs its token."""
    known = credentials.load(settings.home)
    if known is not None and await _opens(known):
        screen.say(f"klepaas runs already at {known.url}.")
        async with Client(known.url, known.token) as client:
            yield client, None
        return

    def keep(server: child.Child) -> None:
        if not passing:
            screen.say(f"Operator token (shown only now, and kept for you in {credentials.path_in(settings.home)}):")
            screen.say(f"  {server.token}")
        credentials.store(settings.home, Login(url=server.url, token=server.token))

    screen.say("Starting klepaas …")
    async with child.serving(settings.home, environment, port or child.free_port(), keep=keep) as server:
        login = Login(url=server.url, token=server.token or (known.token if known else ""))
        if not await _opens(login):
            raise NotAuthenticated(
                f"The operator token of the klepaas in {settings.home} is not known here.",
                hint="Make another: klepaas up --new-operator-token. Then, while it runs: klepaas login",
            )
        credentials.store(settings.home, login)
        async with Client(login.url, login.token) as client:
            yield client, server


async def _opens(login: Login) -> bool:
    """Whether a klepaas on this machine answers there and takes the token."""
    if not login.token or urlsplit(login.url).hostname not in {"127.0.0.1", "::1", "localhost"}:
        return False
    try:
        async with Client(login.url, login.token) as client:
            await client.projects()
    except KlepaasError:
        return False
    return True


async def _bring_live(client: Client, home: Path, environment: Mapping[str, str], screen: Screen) -> Shown | ExitCode:
    """The app of now, live and seen answering; the exit code of its deployment when that did not end well."""
    app = await sample.prepare(home / "demo" / "sample", environment)
    project = await _project(client, app, screen)
    standing = await client.status(project["id"])
    live = (standing["live"] or {}).get("release")
    if live is not None and live["commit_sha"] == app.commit_sha:
        screen.say(f"Version {app.version} of the sample app is live already.")
    else:
        code = await submit(
            client,
            WithoutData(quiet=screen.quiet, verbose=screen.verbose),
            lambda key: client.deploy(project["id"], key=key, commit=app.commit_sha),
            key=None,
            wishes=Wishes(),
        )
        if code is not ExitCode.LIVE:
            return code
        standing = await client.status(project["id"])
    url = standing["urls"][0]
    await see_answer(url, app.version)
    return Shown(url=url, sample=app)


async def _project(client: Client, app: Sample, screen: Screen) -> dict[str, Any]:
    """The project of the sample's repository. How the app runs is said by its own project file. Errors: Conflict when
    this klepaas takes no repositories of its machine."""
    known = [each for each in await client.projects() if each["repository"] == str(app.repository)]
    try:
        if known:
            # Changes nothing, and is refused now where its deployment would fail.
            return await client.configure(known[0]["id"], repository=str(app.repository))
        screen.say(f"Registering the project {NAME} …")
        return await client.register(str(app.repository), name=NAME)
    except Invalid as refused:
        if LOCAL_REPOSITORIES not in refused.hint:
            raise
        raise Conflict(
            f"The klepaas that runs at {client.url} takes no repositories of this machine, and the sample app is one.",
            hint=f"Stop it first, or start it with {LOCAL_REPOSITORIES}; then run the demo again.",
        ) from refused


async def see_answer(url: str, version: str) -> None:
    """See the URL answer 200 with this version. Errors: NotHealthy with what was seen instead."""
    seen, deadline = "nothing", time.monotonic() + ANSWERS_WITHIN_S
    async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
        while time.monotonic() < deadline:
            try:
                page, answer = await http.get(f"{url}/"), await http.get(f"{url}/version")
                seen = f"HTTP {page.status_code}, version {answer.text.strip()[:40]!r}"
                if page.status_code == 200 and answer.status_code == 200 and answer.text.strip() == version:
                    return
            except httpx.HTTPError as error:
                seen = str(error) or type(error).__name__
            await asyncio.sleep(0.1)
    raise NotHealthy(
        f"{url} does not answer with version {version} of the sample app.",
        hint=f"Look at it: klepaas status {NAME}; klepaas logs {NAME}",
        evidence={"seen": seen},
    )


def _summary(screen: Screen, found: Shown, api_url: str, *, stays: bool) -> None:
    command = "klepaas" if shutil.which("klepaas") else ".venv/bin/klepaas"
    screen.say()
    screen.say(f"The sample app, version {found.sample.version}, answers 200 at", style="bold green")
    screen.line(found.url)
    screen.say()
    for words, meaning in (
        (f"{command} status {NAME}", "how it stands"),
        (f"{command} logs {NAME}", "what it writes"),
        (f"{command} rollback {NAME}", "back to the version before"),
        ("echo 2 > examples/sample/site/version.txt; ./run demo", "the next version"),
    ):
        screen.say(f"  {words:<54} {meaning}")
    screen.say(f"  {api_url + '/api/v1':<54} the API")
    if stays:
        screen.say()
        screen.say("Ctrl-C ends klepaas; the app goes on serving.")


async def until_interrupted_or_ended(server: child.Child) -> None:
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, interrupted.set)
    waits = [asyncio.create_task(interrupted.wait()), asyncio.create_task(server.process.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()

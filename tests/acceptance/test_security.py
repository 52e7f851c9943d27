"""Security, held against a klepaas that runs: no shell, no way out, no secret where none belongs, no open port."""

import ast
import asyncio
import base64
import contextlib
import json
import os
import secrets
import socket
import sqlite3
import stat
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from klepaas.client import Client
from klepaas.errors import NotFound
from klepaas.storage.sealing import new_key
from klepaas.targets.local.sockets import Listener
from tests.acceptance.app_repository import AppRepository
from tests.acceptance.klepaas_process import Ground, KlepaasProcess
from tests.acceptance.visitor import (
    add_connection,
    bring,
    deployed,
    docker,
    live,
    running,
    serving_git,
)
from tests.servers.base_images import static_base
from tests.servers.git_http import git

pytestmark = pytest.mark.docker

PACKAGE = Path(__file__).parents[2] / "src" / "klepaas"
SHELLS = {"sh", "bash", "dash", "zsh", "/bin/sh", "/bin/bash"}
SHELL_CALLS = {
    *("os.system", "os.popen", "asyncio.create_subprocess_shell", "pty.spawn"),
    *("subprocess.getoutput", "subprocess.getstatusoutput"),
}


@pytest.fixture(scope="module")
def process(docker_host: str) -> Iterator[KlepaasProcess]:
    static_base(docker_host)
    with running(docker_host) as started:
        yield started


@pytest.fixture
async def client(process: KlepaasProcess) -> AsyncIterator[Client]:
    async with process.client() as opened:
        yield opened


@pytest.fixture
async def http(process: KlepaasProcess) -> AsyncIterator[httpx.AsyncClient]:
    """The API without the manners of our client."""
    headers = {"Authorization": f"Bearer {process.ground.token}"}
    async with httpx.AsyncClient(base_url=process.url, headers=headers, trust_env=False, timeout=30) as opened:
        yield opened


# S-01, S-02: no shell, no options.


def test_s01_nothing_in_klepaas_can_start_a_shell() -> None:
    found = [
        f"{module.relative_to(PACKAGE)}:{line}"
        for module in PACKAGE.rglob("*.py")
        for line in _shells_in(ast.parse(module.read_text()))
    ]

    assert found == []


def _shells_in(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="shell", value=ast.Constant(value=False)):
                pass
            case ast.keyword(arg="shell"):
                yield node.value.lineno
            case ast.Attribute() if ast.unparse(node) in SHELL_CALLS:
                yield node.lineno
            case ast.List(elts=words) | ast.Tuple(elts=words):
                said = [word.value for word in words if isinstance(word, ast.Constant)]
                if SHELLS & {word for word in said if isinstance(word, str)} and "-c" in said:
                    yield node.lineno


@pytest.mark.parametrize("line", ["run(['sh', '-c', x])", "f(shell=True)", "f(shell=x)", "os.system(x)"])
def test_s01_the_rule_sees_a_shell(line: str) -> None:
    assert list(_shells_in(ast.parse(line))) == [1]


def evil(canary: Path) -> list[str]:
    """Texts that leave a canary behind when a shell, git or docker takes them for more than a text."""
    touch, packed = f"touch {canary}", f"touch${{IFS}}{canary}"
    return [
        *(f"$({touch})", f"`{touch}`", f"; {touch};", f"| {touch}", f"&& {touch}", f"\n{touch}\n", f"'; {touch}; '"),
        *(f"$({packed})", f"`{packed}`", f";{packed};", f"a;{packed}", f"main|{packed}"),
        *(f"--upload-pack={touch}", f"--upload-pack={packed}", f"-oProxyCommand={packed}", f"-u{packed}"),
        *(f"ext::sh -c {quote(touch)}", f"ext::sh%20-c%20{packed}", f"ssh://-oProxyCommand={packed}/x"),
        *("@{-1}", "--privileged", "-f", "../../../../etc/passwd", "--output=/etc/cron.d/x"),
    ]


async def test_s01_s02_no_field_of_the_api_is_taken_for_a_command(
    process: KlepaasProcess, client: Client, http: httpx.AsyncClient
) -> None:
    canary = process.ground.folder / "canary"
    repository = AppRepository(process.ground.folder / "fuzzed")
    repository.commit()
    await client.register(str(repository.path), name="fuzzed")
    await live(client, "fuzzed")
    before = await client.project("fuzzed")

    accepted: list[str] = []
    for (method, path, body), text in product(_fields(), evil(canary)):
        filled = json.loads(json.dumps(body).replace('"EVIL"', json.dumps(text)))
        answer = await http.request(method, path.replace("EVIL", quote(text, safe="")), json=filled)
        assert answer.status_code < 500, f"{method} {path} {filled}: {answer.text}"
        if answer.is_success:
            accepted.append(f"{method} {path} {json.dumps(body)}")
            if method == "POST" and path.endswith("/deployments"):
                await http.post(f"/api/v1/deployments/{answer.json()['deployment']['id']}/cancel")
            if path == "/api/v1/projects":
                await http.delete(f"/api/v1/projects/{answer.json()['id']}")
        else:
            error = answer.json()["error"]
            assert error["code"] in {"invalid", "not_found", "conflict"}, answer.text

    # Words for people may be anything; everything that reaches a program was refused.
    free = ("note", "variables", "/tokens", "Idempotency")
    assert [each for each in accepted if not any(word in each for word in free)] == []
    assert not _canaries(process.ground)
    assert (await client.project("fuzzed"))["settings"] == before["settings"]


def _fields() -> list[tuple[str, str, dict[str, Any]]]:
    one, projects = "/api/v1/projects/fuzzed", "/api/v1/projects"
    good = {"repository": "https://127.0.0.1:9/x.git"}
    settings = ("dockerfile", "context", "health_path", "port")
    return [
        ("POST", projects, {"repository": "EVIL"}),
        *(("POST", projects, {**good, field: "EVIL"}) for field in ("name", "branch", "environment", "target")),
        ("POST", projects, {**good, "connection_id": "EVIL"}),
        ("PATCH", one, {"repository": "EVIL"}),
        ("PATCH", one, {"branch": "EVIL"}),
        *(("POST", projects, {**good, "name": "EVIL", "settings": {name: "EVIL"}}) for name in settings),
        ("PATCH", one, {"settings": {"hosts": ["EVIL"]}}),
        ("PATCH", one, {"settings": {"EVIL": 1}}),
        ("PUT", f"{one}/variables", {"variables": {"EVIL": "x"}}),
        ("PUT", f"{one}/variables", {"variables": {"SAFE": "EVIL"}}),
        *(("POST", f"{one}/deployments", {field: "EVIL"}) for field in ("branch", "commit", "environment", "note")),
        ("POST", f"{one}/rollback", {"commit": "EVIL"}),
        ("POST", f"{one}/rollback", {"steps_back": 1, "environment": "EVIL"}),
        ("POST", "/api/v1/tokens", {"name": "EVIL", "scope": "read"}),
        ("POST", "/api/v1/tokens", {"name": "x", "scope": "EVIL"}),
        ("DELETE", "/api/v1/tokens/EVIL", {}),
        ("DELETE", "/api/v1/projects/EVIL", {}),
        ("POST", "/api/v1/projects/EVIL/deployments", {}),
        ("POST", "/api/v1/deployments/EVIL/cancel", {}),
    ]


def _canaries(ground: Ground) -> list[Path]:
    return [path for path in (Path("/"), Path("/tmp"), ground.folder, ground.home) if (path / "canary").exists()]


async def test_s01_names_that_are_allowed_reach_git_and_docker_as_names(
    process: KlepaasProcess, client: Client
) -> None:
    """The nastiest names that are legal, all the way to a running app."""
    canary = process.ground.folder / "canary"
    nasty = f"$(touch${{IFS}}{str(canary).replace('/', '${HOME%root}')})"
    repository = AppRepository(process.ground.folder / "it's;touch${IFS}canary;$(touch${IFS}canary)`touch${IFS}canary`")
    folder = repository.path / "a $(touch canary) `touch canary`; touch canary" / "-f"
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text((repository.path / "Dockerfile").read_text())
    git("add", "-A", cwd=repository.path)
    git("commit", "-q", "-m", f"{nasty}\n\n`touch {canary}`", f"--author=$(touch {canary}) <x@y>", cwd=repository.path)
    git("checkout", "-q", "-b", "main&touch(canary)!%24", cwd=repository.path)
    text = f"$(touch {canary}) `touch {canary}` ; touch {canary} \" ' \\ \n%s ${{PATH}} --privileged"

    await client.register(
        str(repository.path),
        name="nasty",
        branch="main&touch(canary)!%24",
        settings={
            "dockerfile": str(folder.relative_to(repository.path) / "Dockerfile"),
            "context": ".",
            "health_path": f"/health?$(touch$IFS'{canary}');",
        },
    )
    await client.set_variables("nasty", {"EVIL": text})
    deployment = await live(client, "nasty", note=text)

    assert deployment["commit_message"].startswith(nasty)
    assert deployment["note"] == text
    container = docker(
        process.ground.docker_host, "ps", "--quiet", "--filter", f"label=klepaas.release={deployment['release_id']}"
    )
    found = json.loads(docker(process.ground.docker_host, "inspect", container))[0]
    assert f"EVIL={text}" in found["Config"]["Env"]
    assert not found["HostConfig"]["Privileged"]
    assert not _canaries(process.ground)
    assert not list(process.ground.home.rglob("canary"))


# S-03: nothing outside of the repository or the log folder can be had.


@pytest.mark.parametrize(
    ("link", "settings", "code"),
    [
        pytest.param(("Dockerfile", "/etc/passwd"), {}, "dockerfile_unusable", id="dockerfile"),
        pytest.param(("web", "/etc"), {"context": "web", "dockerfile": "Dockerfile"}, "context_unusable", id="context"),
        pytest.param(("web", "../../.."), {"dockerfile": "web/Dockerfile"}, "dockerfile_", id="folder"),
    ],
)
async def test_s03_a_link_out_of_the_repository_is_not_followed(
    process: KlepaasProcess, client: Client, link: tuple[str, str], settings: dict[str, str], code: str
) -> None:
    name = f"linked-{link[0].lower()}-{len(link[1])}"
    repository = AppRepository(process.ground.folder / name)
    place = repository.path / link[0]
    place.unlink(missing_ok=True)
    place.symlink_to(link[1])
    repository.commit()
    await client.register(str(repository.path), name=name, settings=settings)

    deployment = await deployed(client, name)

    assert deployment["status"] == "failed"
    assert deployment["failure"]["code"].startswith(code)
    assert "root:" not in json.dumps(deployment)


@pytest.mark.parametrize("name", ["../../secret.key", "..%2f..%2fsecret.key", "/etc/passwd", "..", "dep_x/../../../x"])
async def test_s03_a_log_is_only_a_log(http: httpx.AsyncClient, client: Client, name: str) -> None:
    answer = await http.get(f"/api/v1/deployments/{quote(name, safe='')}/logs", params={"download": 1})

    assert answer.status_code == 404
    with pytest.raises(NotFound):
        await client.build_log(name)


# S-05, S-06: secrets.


class Spellings:
    """A secret and the ways it may be written in."""

    def __init__(self, *values: str) -> None:
        self._forms: set[bytes] = set()
        for value in values:
            raw = value.encode()
            self._forms |= {
                raw,
                quote(value, safe="").encode(),
                quote(value).encode(),
                json.dumps(value)[1:-1].encode(),
            }
            # Base64 of a text that holds the secret at any place: without the characters its neighbours touch.
            self._forms |= {base64.b64encode(b"\0" * skip + raw)[4 if skip else 0 : -4] for skip in range(3)}
            self._forms.add(raw.hex().encode())

    def in_(self, data: bytes | str) -> bool:
        text = data.encode() if isinstance(data, str) else data
        return any(form in text for form in self._forms)


class Argvs(threading.Thread):
    """Every command line on this machine, looked at again and again until `stop`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.02):
            for process in os.listdir("/proc"):
                if process.isdecimal():
                    with contextlib.suppress(OSError):
                        self.seen.add(Path("/proc", process, "cmdline").read_bytes())

    def stop(self) -> None:
        self._over.set()
        self.join()


async def test_s05_s06_no_secret_is_anywhere_but_in_the_container_that_needs_it(
    docker_host: str, ground: Ground
) -> None:
    static_base(docker_host)
    value, password = f'v4lue:/"é&+ {secrets.token_hex(12)}', f"p4ss:/&+%{secrets.token_hex(12)}"
    process = ground.process(LOG_LEVEL="debug")
    await process.start()
    spellings = Spellings(value, password, ground.token)
    argvs = Argvs()
    argvs.start()
    said: list[str] = []
    with serving_git() as server:
        async with process.client() as client:
            repository = bring(server, "dockerfile-in-root", "private", token=f"robot:{password}")
            connection = await add_connection(ground, username="robot", password=password)
            await client.register(repository.url, name="private", connection_id=connection)
            await client.set_variables("private", {"SECRET": value, "PLAIN": "shown"})
            first = await live(client, "private")
            repository.publish({"Dockerfile": "FROM klepaas-test/static:host\nRUN env; exit 3\n"})
            failed = await deployed(client, "private")
            repository.publish({"Dockerfile": 'FROM klepaas-test/static:host\nCMD ["sh", "-c", "exit 4"]\n'})
            unwell = await deployed(client, "private")
            assert [each["status"] for each in (first, failed, unwell)] == ["succeeded", "failed", "failed"]
            assert server.authorizations, "the credential was used"
            said += [json.dumps(each) for each in (first, failed, unwell)]
            said += [json.dumps(await client.status("private")), json.dumps(await client.variables("private"))]
            said += [json.dumps(await client.candidates("private")), json.dumps(await client.projects())]
            for deployment in (first, failed, unwell):
                said.append(json.dumps(await client.events(deployment["id"])))
                said.append(json.dumps(await client.evidence(deployment["id"])))
                said.append(json.dumps(await client.build_log(deployment["id"])))
            container = docker(docker_host, "ps", "-q", "--filter", f"label=klepaas.release={first['release_id']}")
            environment = json.loads(docker(docker_host, "inspect", container))[0]["Config"]["Env"]
            assert f"SECRET={value}" in environment, "it is where it is needed"
    argvs.stop()
    image = first["image_digest"]
    said += [docker(docker_host, "history", "--no-trunc", image), docker(docker_host, "image", "inspect", image)]
    labels = json.loads(docker(docker_host, "inspect", container))[0]["Config"]["Labels"]
    said.append(json.dumps(labels))

    assert not [text for text in said if spellings.in_(text)]
    assert not [argv for argv in argvs.seen if spellings.in_(argv)]
    first_words, _, rest = process.log.read_text().partition(ground.token)
    assert not spellings.in_(first_words)
    assert not spellings.in_(rest), "the token is shown once"
    assert await process.stop() == 0
    files = [path for path in ground.home.rglob("*") if path.is_file()]
    assert ground.home / "klepaas.db" in files
    assert not [path for path in files if spellings.in_(path.read_bytes())]


async def test_s06_everything_klepaas_keeps_is_for_its_own_user_only(process: KlepaasProcess, client: Client) -> None:
    repository = AppRepository(process.ground.folder / "kept")
    repository.commit()
    await client.register(str(repository.path), name="kept")
    await live(client, "kept")

    open_to_others = [
        str(path)
        for path in (process.ground.home, *process.ground.home.rglob("*"))
        if not path.is_symlink() and _mode(path) & 0o077 and not _behind_closed_doors(path, process.ground.home)
    ]

    assert _mode(process.ground.home) == 0o700
    assert open_to_others == []


def _mode(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return stat.S_IMODE(path.stat().st_mode)
    return 0


def _behind_closed_doors(path: Path, home: Path) -> bool:
    """A folder on the way to it is closed to others: the home itself does not count, it may be an older one."""
    return any(_mode(folder) & 0o077 == 0 for folder in path.parents if folder != home and home in folder.parents)


async def test_r33_a_wrong_key_is_refused_at_the_start_and_the_right_one_opens_everything(
    ground: Ground, repository: AppRepository
) -> None:
    process, key_file = ground.process(), ground.home / "secret.key"
    await process.start()
    async with process.client() as client:
        await client.register(str(repository.path), name="sealed")
        await client.set_variables("sealed", {"SECRET": "opens sesame"})
    await process.stop()

    with pytest.raises(RuntimeError, match=r"ended with [1-9]\d*: (?s:.)*key"):
        await process.start(ENCRYPTION_KEY=new_key())
    key = key_file.read_bytes()
    key_file.unlink()
    with pytest.raises(RuntimeError, match=r"ended with [1-9]\d*: (?s:.)*The encryption key is missing"):
        await process.start()
    assert not key_file.exists(), "a new key would be a lie"
    assert "Traceback" not in process.log.read_text()

    key_file.touch(0o600)
    key_file.write_bytes(key)
    await process.start()
    async with process.client() as client:
        deployment = await live(client, "sealed")
    container = docker(
        ground.docker_host, "ps", "--quiet", "--filter", f"label=klepaas.release={deployment['release_id']}"
    )
    assert "SECRET=opens sesame" in docker(ground.docker_host, "inspect", container)


# S-08: tokens.


async def test_s08_the_first_token_is_shown_once_and_kept_as_a_hash(docker_host: str, ground: Ground) -> None:
    process = ground.process()
    await process.start()
    await process.stop()
    await process.start()
    await process.stop()

    assert process.log.read_text().count("klp_") == 1
    assert len(ground.token) > 40
    with contextlib.closing(sqlite3.connect(ground.home / "klepaas.db")) as database:
        everything = "\n".join(database.iterdump())
    assert ground.token not in everything
    assert ground.token.removeprefix("klp_") not in everything


@pytest.mark.parametrize(
    "credential", ["", "Bearer", "Bearer klp_", "Bearer admin", "Basic YWRtaW46YWRtaW4=", "Bearer klp_" + "0" * 64]
)
async def test_s08_there_is_no_default_credential(process: KlepaasProcess, credential: str) -> None:
    headers = {"Authorization": credential} if credential else {}
    async with httpx.AsyncClient(base_url=process.url, headers=headers, trust_env=False) as http:
        for path in ("/api/v1/projects", "/api/v1/openapi.json", "/metrics", "/api/v1/tokens"):
            answer = await http.get(path)
            assert (answer.status_code, answer.headers.get("WWW-Authenticate")) == (401, "Bearer"), path


async def test_s08_a_read_token_changes_nothing_and_an_expired_one_reads_nothing(
    process: KlepaasProcess, client: Client, http: httpx.AsyncClient
) -> None:
    repository = AppRepository(process.ground.folder / "read-only")
    repository.commit()
    await client.register(str(repository.path), name="read-only")
    deployment = await live(client, "read-only")
    reader = await client.create_token("reader", "read")
    brief = await client.create_token("brief", "read", lifetime_days=1 / 86400)
    described = (await http.get("/api/v1/openapi.json")).json()
    names = defaultdict(lambda: "x", project="read-only", deployment_id=deployment["id"], token_id=reader["id"])
    before = (await client.projects(), (await client.deployments("read-only"))["deployments"], await client.tokens())

    reading = httpx.AsyncClient(
        base_url=process.url, headers={"Authorization": f"Bearer {reader['token']}"}, trust_env=False
    )
    tried = 0
    async with reading:
        for path, methods in described["paths"].items():
            for method in set(methods) - {"get"}:
                if methods[method].get("security") == []:
                    continue  # a webhook: proven by its signature, whoever brings it
                body = _example(described, methods[method])
                answer = await reading.request(method.upper(), path.format_map(names), json=body)
                assert answer.status_code == 403, f"{method} {path}: {answer.text}"
                tried += 1
        assert (await reading.get("/api/v1/projects")).status_code == 200
    assert tried >= 8
    after = (await client.projects(), (await client.deployments("read-only"))["deployments"], await client.tokens())
    assert after == before

    await asyncio.sleep(1.1)
    expired = await http.get("/api/v1/projects", headers={"Authorization": f"Bearer {brief['token']}"})
    assert expired.status_code == 401


def _example(described: dict[str, Any], operation: dict[str, Any]) -> Any:
    """An example of the body a route takes."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return None
    name = content["schema"]["$ref"].rpartition("/")[2]
    return described["components"]["schemas"][name]["examples"][-1]


# S-14, S-15: what can be reached.


async def test_s14_a_build_reaches_neither_klepaas_nor_the_engine(process: KlepaasProcess, client: Client) -> None:
    port = process.url.rpartition(":")[2]
    asks = r"(printf 'GET /health HTTP/1.0\r\n\r\n'; sleep 0.5) | nc -w 3 {host} {port} | grep HTTP/1"
    step = f"""FROM klepaas-test/static:host
ENV ONCE={secrets.token_hex(8)}
RUN ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p' > /gateway; \\
    for host in 127.0.0.1 localhost $(cat /gateway); do \\
      echo "asking $host"; {asks.format(host="$host", port=port)} && echo "REACHED klepaas at $host"; \\
    done; \\
    (nc -l -p 4000 -e echo HTTP/1.1 &); sleep 0.3; \\
    {asks.format(host="127.0.0.1", port=4000)} && echo "reached itself"; \\
    for file in /var/run/docker.sock /run/docker.sock {process.ground.home}; do \\
      ls -l $file 2>/dev/null && echo "REACHED $file"; \\
    done; \\
    echo "asked everybody"
CMD ["httpd", "-f", "-p", "8080"]
"""
    with serving_git() as server:
        repository = bring(server, "dockerfile-in-root", "nosy")
        repository.publish({"Dockerfile": step})
        await client.register(repository.url, name="nosy")
        deployment = await deployed(client, "nosy")

    lines = [line["text"] for line in (await client.build_log(deployment["id"]))["lines"]]
    told = [line for line in lines if not line.partition(" ")[2].startswith("[")]
    assert any(line.endswith("asked everybody") for line in told), lines
    assert any(line.endswith("reached itself") for line in told), "the question is asked rightly"
    # The step itself is shown too, with every word of it.
    assert not [line for line in told if "REACHED" in line and "echo" not in line], told


async def test_s14_a_build_gets_no_more_rights_by_asking(process: KlepaasProcess, client: Client) -> None:
    port = process.url.rpartition(":")[2]
    dockerfile = (
        "FROM klepaas-test/static:host\n"
        f"ENV ONCE={secrets.token_hex(8)}\n"
        f"RUN --network=host (sleep 1 | nc -w 3 127.0.0.1 {port}) && echo REACHED it\n"
        'CMD ["httpd", "-f", "-p", "8080"]\n'
    )
    with serving_git() as server:
        repository = bring(server, "dockerfile-in-root", "asking")
        repository.publish({"Dockerfile": dockerfile})
        await client.register(repository.url, name="asking")
        deployment = await deployed(client, "asking")

    assert (deployment["status"], deployment["failure"]["code"]) == ("failed", "build_failed")
    lines = [line["text"] for line in (await client.build_log(deployment["id"]))["lines"]]
    assert not [line for line in lines if "REACHED" in line and "echo" not in line], lines


async def test_s15_every_open_port_is_a_front_door_or_wants_a_token(process: KlepaasProcess, client: Client) -> None:
    repository = AppRepository(process.ground.folder / "ported")
    repository.commit()
    await client.register(str(repository.path), name="ported")
    url = (await live(client, "ported"))["urls"][0]
    host = process.ground.docker_host
    proxy = json.loads(docker(host, "inspect", f"klepaas-proxy-{process.ground.instance_id}"))[0]["State"]["Pid"]

    own, doors = _listens(process.pid), _listens(proxy)

    assert [str(each) for each in own] == [process.url.removeprefix("http://")]
    assert url.removeprefix("http://") in {str(each) for each in doors}
    assert all(each.is_loopback for each in (*own, *doors)), (own, doors)
    async with httpx.AsyncClient(trust_env=False) as visitor:
        assert (await visitor.get(f"{process.url}/api/v1/projects")).status_code == 401
        # Doors with nothing behind them let a visitor wait a little for an app that may just be starting.
        paths = ("/config/", "/metrics", "/debug/pprof/", "/load", "/pki/ca/local")
        asked = [f"{url}{path}" for path in paths] + [f"http://{door}/config/" for door in doors]
        answers = await asyncio.gather(*(visitor.get(each, timeout=30) for each in asked))
    assert {(str(a.url), a.status_code) for a in answers if a.status_code not in {404, 502, 503}} == set()
    sockets = [path for path in process.ground.home.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]
    assert sockets
    assert {_mode(path) & 0o077 for path in sockets} == {0}
    for container in process.ground.containers():
        found = json.loads(docker(host, "inspect", container["Id"]))[0]
        published = [each for bound in (found["HostConfig"]["PortBindings"] or {}).values() for each in bound]
        assert {each["HostIp"] for each in published} <= {"127.0.0.1"}
        assert not any("docker.sock" in json.dumps(mount) for mount in found["Mounts"])


def _listens(pid: int) -> list[Listener]:
    """Where this one process listens: the sockets it holds, among those of its network."""
    held = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            held.add(os.readlink(entry))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in held:
                found.append(_listener(fields[1]))
    return sorted(found)


def _listener(text: str) -> Listener:
    address, port = text.split(":")
    words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return Listener(socket.inet_ntop(family, b"".join(words)), int(port, 16))

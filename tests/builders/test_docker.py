"""Builds on a real engine with the program this machine would use; some also with the engine's old builder."""

import asyncio
import os
import re
import secrets
import stat
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from klepaas import processes
from klepaas.builders.docker import BuildLimits, DockerBuilder
from klepaas.builders.docker_cli import BuildProgram, Kind, choose_program
from klepaas.docker.engine import DockerEngine
from klepaas.domain.project import App
from klepaas.errors import BuildFailed, DiskFull, EngineUnavailable
from tests.builders.checkout import Lines, checkout, request_for, some_app, some_commit
from tests.servers.base_images import static_base
from tests.servers.docker import DockerDaemon

pytestmark = pytest.mark.docker

ENDS_WITHIN_S = 5.0
"""R-03. Measured: under 0.3 s."""


@pytest.fixture(params=["best", "legacy"])
async def program(request: pytest.FixtureRequest) -> BuildProgram:
    program = await choose_program(speaks_buildkit=request.param == "best")
    if request.param == "best" and program.kind is Kind.LEGACY:
        pytest.skip("no program on this machine has BuildKit")
    return program


@pytest.fixture
def any_builder(engine: DockerEngine, instance_id: str, program: BuildProgram) -> DockerBuilder:
    return DockerBuilder(engine, instance=instance_id, program=program)


async def test_a_commit_becomes_an_image_with_our_labels_and_tag(
    any_builder: DockerBuilder, engine: DockerEngine, instance_id: str, app: App, fresh: str, tmp_path: Path
) -> None:
    # The repository may not speak in our name.
    dockerfile = f"FROM {fresh}\nLABEL klepaas.app=victim mine=1\nRUN echo made\nEXPOSE 9000 80 53/udp\n"
    source = checkout(tmp_path, {"Dockerfile": dockerfile})
    lines = Lines()

    image = await any_builder.build(request_for(source, app, commit_sha="ab" * 20), lines.add)
    found = await engine.inspect_image(image.digest)

    assert re.fullmatch("sha256:[0-9a-f]{64}", image.digest)
    assert image.ref == f"klepaas/{app.name}:{'ab' * 20}"
    assert image.commit_sha == "ab" * 20
    assert image.exposed_ports == (80, 9000)
    assert found["RepoTags"] == [image.ref]
    labels = {key: value for key, value in found["Config"]["Labels"].items() if "test" not in key}
    assert len(labels.pop("klepaas.build")) == 12
    assert labels == {
        "klepaas.managed": "1",
        "klepaas.instance": instance_id,
        "klepaas.app": app.name,
        "klepaas.commit": "ab" * 20,
        "mine": "1",
    }
    assert "made" in lines.text
    assert await any_builder.inspect(image.digest) == image


async def test_the_build_uses_the_chosen_folder_and_stages(
    any_builder: DockerBuilder, app: App, fresh: str, tmp_path: Path
) -> None:
    dockerfile = (
        f"FROM {fresh.replace(chr(10), f' AS made{chr(10)}', 1)}\nCOPY hello.txt /in\nRUN tr a-z A-Z </in >/out\n"
        f"FROM {fresh}\nCOPY --from=made /out /out\nRUN cat /out\n"
    )
    source = checkout(tmp_path, {"services/web/Dockerfile": dockerfile, "services/web/hello.txt": "it is here"})
    lines = Lines()

    await any_builder.build(request_for(source, app), lines.add)

    assert "IT IS HERE" in lines.text


async def test_a_setting_may_name_another_context(builder: DockerBuilder, app: App, fresh: str, tmp_path: Path) -> None:
    source = checkout(
        tmp_path, {"docker/web.Dockerfile": f"FROM {fresh}\nCOPY x /x\nRUN cat /x\n", "app/x": "from app", "x": "root"}
    )
    root, other = Lines(), Lines()
    commit = some_commit()

    first = await builder.build(
        request_for(source, app, commit_sha=commit, dockerfile="docker/web.Dockerfile"), root.add
    )
    second = await builder.build(
        request_for(source, app, commit_sha=commit, dockerfile="docker/web.Dockerfile", context="app"), other.add
    )

    assert "root" in root.text
    assert "from app" in other.text
    assert first.ref != second.ref


async def test_the_ignore_file_is_respected(any_builder: DockerBuilder, app: App, fresh: str, tmp_path: Path) -> None:
    source = checkout(
        tmp_path,
        {
            "Dockerfile": f"FROM {fresh}\nCOPY . /all\nRUN find /all -type f\n",
            ".dockerignore": "**/*.secret\n!kept.secret\n",
            "a.secret": "",
            "deep/b.secret": "",
            "kept.secret": "",
            "c.txt": "",
        },
    )
    lines = Lines()

    await any_builder.build(request_for(source, app), lines.add)

    assert "/all/c.txt" in lines.text
    assert "/all/kept.secret" in lines.text
    assert "a.secret" not in lines.text
    assert "b.secret" not in lines.text


async def test_an_ignore_file_of_one_dockerfile_alone_is_respected(
    builder: DockerBuilder, app: App, fresh: str, tmp_path: Path
) -> None:
    program = await choose_program()
    if program.kind is Kind.LEGACY:
        pytest.skip("the old builder knows no such file")
    source = checkout(
        tmp_path,
        {
            "web.Dockerfile": f"FROM {fresh}\nCOPY . /all\nRUN find /all -type f\n",
            "web.Dockerfile.dockerignore": "hidden\n",
            "hidden": "",
            "seen": "",
        },
    )
    lines = Lines()

    await builder.build(request_for(source, app), lines.add)

    assert "/all/seen" in lines.text
    assert "/all/hidden" not in lines.text


async def test_a_failing_step_is_named_with_its_exit_code_and_its_last_words(
    any_builder: DockerBuilder, engine: DockerEngine, instance_id: str, app: App, fresh: str, tmp_path: Path
) -> None:
    """R-23"""
    script = "seq 1 300; sleep 0.2; echo 'npm ERR! missing script: build' >&2; echo bye; exit 3"
    source = checkout(tmp_path, {"Dockerfile": f"FROM {fresh}\nRUN echo fine\nRUN {script}\nRUN echo never\n"})
    lines = Lines()

    with pytest.raises(BuildFailed) as failed:
        await any_builder.build(request_for(source, app), lines.add)

    assert re.search(r"failed at step [35]/\d+ `RUN seq 1 300; .*` with exit code 3\.", failed.value.message)
    assert failed.value.message.endswith("npm ERR! missing script: build.")
    assert failed.value.evidence["exit_code"] == 3
    assert failed.value.evidence["dockerfile"] == "Dockerfile"
    last_lines = failed.value.evidence["last_lines"]
    assert len(last_lines) == 200
    assert any(line.endswith("299") for line in last_lines)
    assert lines[-200:] == last_lines
    assert not await engine.containers([f"klepaas.instance={instance_id}"])


async def test_other_failures_say_what_is_wrong(
    any_builder: DockerBuilder, app: App, fresh: str, tmp_path: Path
) -> None:
    wrong = {
        "FORM scratch\n": "unknown instruction: FORM",
        f"FROM {fresh}\nCOPY nothing /x\n": "nothing.*not (?:found|exist)",
        "FROM klepaas-test/there-is-no-such:image\nRUN true\n": "base image `klepaas-test/there-is-no-such:image`",
        f"FROM {fresh}\nRUN no-such-program --x\n": "exit code 127.*no-such-program",
    }
    for number, (dockerfile, words) in enumerate(wrong.items()):
        source = checkout(tmp_path / str(number), {"Dockerfile": dockerfile})
        with pytest.raises(BuildFailed, match=f"(?s){words}"):
            await any_builder.build(request_for(source, app), Lines().add)


async def test_a_frontend_that_cannot_be_loaded_is_done_without(
    any_builder: DockerBuilder, app: App, fresh: str, tmp_path: Path
) -> None:
    # A frontend version that does not exist fails on a machine with Docker Hub as well.
    dockerfile = f"# syntax=docker/dockerfile:0.0.0-none\nFROM {fresh}\nRUN echo built\n"
    source = checkout(tmp_path, {"Dockerfile": dockerfile})
    lines = Lines()

    await any_builder.build(request_for(source, app), lines.add)

    assert "built" in lines.text
    assert (source / "Dockerfile").read_text() == dockerfile


async def test_control_sequences_do_not_reach_the_log(
    any_builder: DockerBuilder, app: App, fresh: str, tmp_path: Path
) -> None:
    """S-12"""
    source = checkout(
        tmp_path, {"Dockerfile": f"FROM {fresh}\nRUN printf '\\033[31mred\\033[0m \\033]0;title\\007end 한글\\n'\n"}
    )
    lines = Lines()

    await any_builder.build(request_for(source, app), lines.add)

    assert any(line.endswith("red end 한글") for line in lines)
    assert not any(ord(character) < 32 and character != "\t" for character in lines.text.replace("\n", ""))


async def test_lines_come_while_the_build_runs(builder: DockerBuilder, app: App, fresh: str, tmp_path: Path) -> None:
    source = checkout(tmp_path, {"Dockerfile": f"FROM {fresh}\nRUN echo first; sleep 601\n"})
    async with cancelled_after(builder, source, app, "first") as seconds:
        pass

    assert seconds() < 60


async def test_labels_leave_the_layers_cached(builder: DockerBuilder, app: App, fresh: str, tmp_path: Path) -> None:
    # `date +%N` differs in every build that really runs.
    source = checkout(tmp_path, {"Dockerfile": f"FROM {fresh}\nRUN echo {secrets.token_hex(8)} $(date +%s%N) >/made\n"})
    first = await builder.build(request_for(source, app), Lines().add)
    lines = Lines()

    second = await builder.build(request_for(source, app), lines.add)

    assert re.search("CACHED|Using cache", lines.text)
    assert first.digest != second.digest
    assert first.commit_sha != second.commit_sha


async def test_hostile_names_are_only_names(builder: DockerBuilder, app: App, fresh: str, tmp_path: Path) -> None:
    """S-01, S-02"""
    folder = "a;touch canary/$(touch canary)/`touch canary`/--privileged"
    source = checkout(tmp_path, {f"{folder}/Dockerfile": f"FROM {fresh}\nCOPY . /all\nRUN ls /all\n"})
    lines = Lines()

    await builder.build(request_for(source, app), lines.add)

    assert "Dockerfile" in lines.text
    assert canaries(tmp_path) == []


async def test_cancelling_ends_the_build_here_and_on_the_engine(
    any_builder: DockerBuilder, engine: DockerEngine, instance_id: str, app: App, fresh: str, tmp_path: Path
) -> None:
    """R-03"""
    nap = f"6{secrets.randbelow(10**8):08}"
    source = checkout(tmp_path, {"Dockerfile": f"FROM {fresh}\nRUN echo asleep; sleep {nap}\n"})
    async with cancelled_after(any_builder, source, app, "asleep"):
        running = processes_with(nap)
    ended = time.monotonic()
    while (
        processes_with(nap) or processes_with(app.name) or await engine.containers([f"klepaas.instance={instance_id}"])
    ):
        assert time.monotonic() - ended < ENDS_WITHIN_S
        await asyncio.sleep(0.05)

    assert running
    assert not await engine.images([f"klepaas.app={app.name}"])


async def test_a_secret_of_ours_is_never_in_a_build(
    any_builder: DockerBuilder,
    engine: DockerEngine,
    app: App,
    fresh: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S-05: not in its environment, its image, the program's arguments or environment."""
    canary = f"canary-{secrets.token_hex(16)}"
    for name in ("KLEPAAS_ENCRYPTION_KEY", "HTTP_PROXY_PASSWORD", "GITHUB_TOKEN"):
        monkeypatch.setenv(name, canary)
    dockerfile = f"FROM {fresh}\nARG GITHUB_TOKEN\nRUN env; echo seen; sleep 0.5\n"
    source = checkout(tmp_path, {"Dockerfile": dockerfile})
    seen: list[bytes] = []
    lines = Lines()

    async def look(line: str) -> None:
        await lines.add(line)
        if line.endswith("seen"):
            seen.extend(map(arguments_and_environment, processes_with(app.name)))

    image = await any_builder.build(request_for(source, app), look)
    history = await processes.run(
        ["docker", "image", "history", "--no-trunc", image.digest],
        env={"DOCKER_HOST": engine.host, "PATH": os.environ["PATH"]},
    )

    assert seen
    assert canary.encode() not in b"".join(seen)
    assert canary not in lines.text
    assert canary not in history.stdout
    assert canary not in str(await engine.inspect_image(image.digest))


async def test_a_build_reaches_neither_our_ports_nor_the_engine(
    any_builder: DockerBuilder, app: App, fresh: str, tmp_path: Path
) -> None:
    """S-14"""
    visits: list[str] = []

    async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append("visited")
        writer.write(b"REACHED\n")
        writer.close()

    server = await asyncio.start_server(visited, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    dockerfile = (
        f"FROM {fresh}\n"
        # That it can reach a port of its own shows that the question is asked rightly.
        "RUN (nc -l -p 4000 -e echo own port &); sleep 0.3; timeout 3 nc 127.0.0.1 4000\n"
        f"RUN timeout 3 nc 127.0.0.1 {port} || echo unreachable\n"
        "RUN ls /var/run/docker.sock /run/docker.sock && echo REACHED || echo nothing there\n"
        "RUN find / -xdev -name 'klepaas*' -o -xdev -name '*.sock' | grep . && echo REACHED || echo nothing found\n"
    )
    source = checkout(tmp_path, {"Dockerfile": dockerfile})
    lines = Lines()
    async with server:
        await any_builder.build(request_for(source, app), lines.add)

    said = [line for line in lines if not re.search(r"RUN|---> ", line)]
    assert not any("REACHED" in line for line in said)
    assert sum(bool(re.search("own port|unreachable|nothing (?:there|found)", line)) for line in said) == 4
    assert visits == []


async def test_a_dockerfile_cannot_ask_for_the_hosts_network(
    any_builder: DockerBuilder, app: App, fresh: str, tmp_path: Path
) -> None:
    """S-14"""
    source = checkout(tmp_path, {"Dockerfile": f"FROM {fresh}\nRUN --network=host echo REACHED\n"})
    lines = Lines()

    with pytest.raises(BuildFailed):
        await any_builder.build(request_for(source, app), lines.add)
    assert not any(re.search(r"^(?:#\d+ [\d.]+ )?REACHED", line) for line in lines)


async def test_apps_do_not_share_the_folders_a_build_caches(
    builder: DockerBuilder, app: App, fresh: str, tmp_path: Path
) -> None:
    """S-14"""
    if (await choose_program()).kind is Kind.LEGACY:
        pytest.skip("the old builder has no cache mounts")
    folder = f"/cache-{secrets.token_hex(8)}"

    async def seen_by(who: App, number: int) -> bool:
        step = f"RUN --mount=type=cache,target={folder} ls {folder}; echo poison >{folder}/poisoned; : {number}"
        source = checkout(tmp_path / str(number), {"Dockerfile": f"FROM {fresh}\n{step}\n"})
        lines = Lines()
        await builder.build(request_for(source, who), lines.add)
        return any(line.endswith(" poisoned") for line in lines)

    assert [await seen_by(app, 1), await seen_by(app, 2), await seen_by(some_app(), 3)] == [False, True, False]


async def test_registry_logins_are_the_operators_own_file_and_the_rest_is_private(
    engine: DockerEngine, instance_id: str, app: App, fresh: str, tmp_path: Path
) -> None:
    """S-06"""
    logins = checkout(tmp_path / "logins", {"config.json": "{}"})
    work = tmp_path / "work"
    work.mkdir()
    builder = DockerBuilder(engine, instance=instance_id, docker_config=logins, work=work)
    source = checkout(tmp_path / "source", {"Dockerfile": f"FROM {fresh}\nRUN echo now\n"})
    modes: set[int] = set()
    linked: set[Path] = set()

    async def look(line: str) -> None:
        for private in work.iterdir():
            modes.add(stat.S_IMODE(private.stat().st_mode))
            linked.add((private / "config" / "config.json").resolve())

    await builder.build(request_for(source, app), look)

    assert modes == {0o700}
    assert linked == {(logins / "config.json").resolve()}
    assert list(work.iterdir()) == []


async def test_an_engine_that_cannot_be_reached_is_the_reason(app: App, tmp_path: Path) -> None:
    engine = DockerEngine(f"unix://{tmp_path}/nothing.sock")
    source = checkout(tmp_path / "source", {"Dockerfile": "FROM scratch\nCOPY . /\n"})
    builder = DockerBuilder(engine, instance="none")

    with pytest.raises(EngineUnavailable):
        await builder.build(request_for(source, app), Lines().add)
    with pytest.raises(EngineUnavailable):
        await builder.inspect("sha256:" + "0" * 64)
    with pytest.raises(EngineUnavailable):
        await builder.find(app, some_commit(), dockerfile=None, context=None)
    await engine.close()


async def test_a_build_is_refused_on_a_nearly_full_disk(
    engine: DockerEngine, instance_id: str, app: App, fresh: str, tmp_path: Path
) -> None:
    """R-09"""
    builder = DockerBuilder(engine, instance=instance_id, limits=BuildLimits(min_free_bytes=2**60))
    lines = Lines()

    with pytest.raises(DiskFull, match=r"No build was begun.*no space left on device") as refused:
        await builder.build(request_for(checkout(tmp_path, {"Dockerfile": f"FROM {fresh}\n"}), app), lines.add)
    assert refused.value.evidence["free_bytes"] > 0
    assert lines == []


async def test_an_image_that_is_too_large_is_refused_and_removed(
    engine: DockerEngine, instance_id: str, app: App, fresh: str, tmp_path: Path
) -> None:
    builder = DockerBuilder(engine, instance=instance_id, limits=BuildLimits(max_image_bytes=4 * 2**20))
    source = checkout(
        tmp_path, {"Dockerfile": f"FROM {fresh}\nRUN dd if=/dev/zero of=/large bs=1M count=8 2>/dev/null\n"}
    )

    with pytest.raises(BuildFailed, match=r"10 MiB.*at most 4 MiB"):
        await builder.build(request_for(source, app), Lines().add)
    assert not await engine.images([f"klepaas.app={app.name}"])


async def test_every_line_of_a_long_log_comes_once_and_in_order(
    own_daemon: DockerDaemon, app: App, tmp_path: Path
) -> None:
    """R-11, on an engine that does not clip the log of a step."""
    own_daemon.start()
    base = static_base(own_daemon.host)
    source = checkout(tmp_path, {"Dockerfile": f"FROM {base}\nRUN seq 1 100000 | sed 's/^/line /'\n"})
    engine = DockerEngine(own_daemon.host)
    lines = Lines()

    await DockerBuilder(engine, instance="long").build(request_for(source, app), lines.add)
    await engine.close()

    numbers = [int(match[1]) for line in lines if (match := re.search(r"line (\d+)$", line))]
    assert not any("output clipped" in line for line in lines)
    assert numbers == list(range(1, 100_001))


@pytest.mark.parametrize(
    ("program", "restarted"), [("best", False), ("best", True), ("legacy", False)], indirect=["program"]
)
async def test_an_engine_that_dies_in_mid_build_is_the_reason(
    own_daemon: DockerDaemon, program: BuildProgram, app: App, tmp_path: Path, restarted: bool
) -> None:
    own_daemon.start()
    source = checkout(tmp_path, {"Dockerfile": f"FROM {static_base(own_daemon.host)}\nRUN echo begun; sleep 602\n"})
    engine = DockerEngine(own_daemon.host)
    builder = DockerBuilder(engine, instance="dying", program=program)

    async def kill(line: str) -> None:
        if line.endswith("begun") and "echo" not in line:
            await asyncio.to_thread(own_daemon.kill)
            if restarted:
                await asyncio.to_thread(own_daemon.start)

    with pytest.raises(EngineUnavailable):
        await builder.build(request_for(source, app), kill)
    await engine.close()


@pytest.mark.slow
@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("min_free_mib", [0, 60])
async def test_a_disk_that_fills_during_a_build_ends_it(
    own_daemon: DockerDaemon, app: App, tmp_path: Path, min_free_mib: int
) -> None:
    """R-09, R-19: with nothing kept free the engine runs into the end of its disk; else the build is ended before."""
    own_daemon.start()
    step = "for i in $(seq 600); do dd if=/dev/zero of=/large-$i bs=1M count=1 2>&1 || exit 1; sleep 0.03; done"
    source = checkout(tmp_path, {"Dockerfile": f"FROM {static_base(own_daemon.host)}\nRUN {step}\n"})
    engine = DockerEngine(own_daemon.host)
    limits = BuildLimits(min_free_bytes=min_free_mib * 2**20)

    with pytest.raises(DiskFull, match="no space left on device") as full:
        await DockerBuilder(engine, instance="full", limits=limits).build(request_for(source, app), Lines().add)
    await engine.close()

    assert ("The build was ended" in full.value.message) == (min_free_mib > 0)


@pytest.fixture
def small_disk(own_daemon: DockerDaemon) -> None:
    """A disk of 128 MiB under the engine's data; it goes when the daemon is stopped."""
    data = own_daemon.folder / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", data], check=True)


@asynccontextmanager
async def cancelled_after(builder: DockerBuilder, source: Path, app: App, word: str) -> AsyncIterator[object]:
    """A build whose log has shown this word; leaving the block cancels it and waits for its end."""
    said = asyncio.Event()
    began = time.monotonic()

    async def listen(line: str) -> None:
        if re.search(rf"(?:^|\d ){word}$", line):
            said.set()

    building = asyncio.create_task(builder.build(request_for(source, app), listen))
    await asyncio.wait_for(said.wait(), 60)
    yield lambda: time.monotonic() - began
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building


def processes_with(words: str) -> list[str]:
    """Folders in /proc of the processes whose command line holds these words."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and words.encode() in (folder / "cmdline").read_bytes():
                found.append(str(folder))
        except OSError:
            continue
    return found


def arguments_and_environment(process: str) -> bytes:
    return Path(process, "cmdline").read_bytes() + Path(process, "environ").read_bytes()


def canaries(folder: Path) -> list[Path]:
    return [
        found for place in (folder, Path.cwd()) for found in place.glob("**/canary*" if place is folder else "canary*")
    ]

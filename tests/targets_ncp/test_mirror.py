"""The mirror at SourceCommit, with the real git on both sides: the branch only moves forward, whatever happens."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from klepaas.domain.connection import Credential
from klepaas.domain.repository import Repository, parse_repository
from klepaas.errors import AuthenticationFailed, CommitNotFound, ManifestUnusable, RepositoryNotFound
from klepaas.settings import process_environment
from klepaas.sources.git_program import GitProgram
from klepaas.targets.ncp.manifest import MANIFEST_PATH
from klepaas.targets.ncp.manifest_made import Wanted
from klepaas.targets.ncp.mirror import Mirror, Mirrors, Origin
from klepaas.testing.ncp import StandInNcp
from klepaas.testing.ncp.faults import Fault, Kind
from klepaas.testing.ncp.handle import StandInRepository
from tests.targets_ncp.origin import OriginRepository

IMAGE = "127.0.0.1:5000/team-shop"

WITH_COMMENTS = """\
# Of the shop.
apiVersion: apps/v1
kind: Deployment
metadata: {name: team-shop}
spec:
  replicas: 3  # for the sale
  selector: {matchLabels: {app: team-shop}}
  template:
    metadata: {labels: {app: team-shop}}
    spec:
      containers:
      - name: web
        image: placeholder
"""


@dataclass
class Bench:
    ncp: StandInNcp
    origin: OriginRepository
    there: StandInRepository
    mirrors: Mirrors

    @property
    def source(self) -> Origin:
        async def no_credential() -> None:
            return None

        return Origin(repository=parse_repository(str(self.origin.path)), branch="main", credential=no_credential)

    @property
    def mirror(self) -> Mirror:
        return Mirror(name="shop-production-1", git_url=self.there.clone_url, branch="main")

    async def bring(self, commit: str) -> str:
        return await self.mirrors.bring(self.source, self.mirror, commit)

    async def publish(self, commit: str, *, replicas: int | None = None, tag: str = "") -> str:
        wanted = Wanted(app="team-shop", image=f"{IMAGE}:{tag or commit}", replicas=replicas)
        return (await self.mirrors.publish(self.source, self.mirror, commit, wanted)).head

    def file(self, path: str = MANIFEST_PATH) -> str:
        return self.there.file(path) or ""

    def holds(self, commit: str) -> bool:
        return commit in self.git("rev-list", "main").split()

    def git(self, *arguments: str) -> str:
        return self.origin.git(*arguments, at=self.ncp.world.repositories["team-shop"].git.folder)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with StandInNcp() as ncp:
        there = ncp.create_repository("team-shop")
        origin = OriginRepository(tmp_path / "origin")
        yield Bench(ncp, origin, there, mirrors_in(tmp_path / "mirrors", ncp))


def mirrors_in(folder: Path, ncp: StandInNcp, password: str | None = None) -> Mirrors:
    git = GitProgram(allow_local=True, network_timeout=timedelta(seconds=20), environment=process_environment())

    def credential(place: Repository) -> Credential:
        user = ncp.world.git_user
        return Credential(username=user, password=password or ncp.world.git_password, host=place.host)

    return Mirrors(folder, git, credential, rests_s=(0.02, 0.05, 0.1))


async def test_the_first_commit_is_mirrored_as_it_is(bench: Bench) -> None:
    bench.origin.commit({"Dockerfile": "FROM scratch\n"})
    second = bench.origin.commit({"app.py": "print()\n"})

    assert await bench.bring(second) == second
    assert bench.there.head("main") == second


async def test_the_manifest_is_a_commit_of_klepaas_on_top(bench: Bench) -> None:
    commit = bench.origin.commit({"Dockerfile": "FROM scratch\n"})
    await bench.bring(commit)
    head = await bench.publish(commit, replicas=2)

    assert bench.git("rev-parse", f"{head}^") == commit
    assert bench.git("log", "-1", "--format=%an|%s", head) == f"klepaas|Update image to {commit}, replicas to 2"
    assert f"image: {IMAGE}:{commit}" in bench.file()
    assert bench.git("diff", "--name-only", commit, head) == MANIFEST_PATH


async def test_later_commits_keep_their_ids_and_the_branch_only_moves_forward(bench: Bench) -> None:
    heads = []
    for number in range(3):
        commit = bench.origin.commit({"app.py": f"print({number})\n"})
        heads += [await bench.bring(commit), await bench.publish(commit)]
        assert bench.git("rev-parse", f"{heads[-2]}^{{tree}}") == bench.origin.git("rev-parse", f"{commit}^{{tree}}")
        assert bench.holds(commit)

    first_parents = bench.git("rev-list", "--first-parent", "--reverse", "main").split()
    assert first_parents[-len(heads) :] == heads
    assert bench.file("app.py") == "print(2)\n"


async def test_a_rewritten_history_needs_no_force(bench: Bench) -> None:
    old = bench.origin.commit({"app.py": "print('old')\n"})
    await bench.publish(old)
    bench.origin.rewrite()
    new = bench.origin.commit({"app.py": "print('new')\n"})
    await bench.publish(new)

    assert bench.holds(old)
    assert bench.holds(new)
    assert bench.file("app.py") == "print('new')\n"


async def test_an_earlier_commit_comes_back_without_asking_where_it_came_from(bench: Bench) -> None:
    """A rollback: GitHub may be away, and may have forgotten it."""
    first = bench.origin.commit({"app.py": "print(1)\n", "old.py": ""})
    await bench.publish(first)
    second = bench.origin.commit({"app.py": "print(2)\n", "old.py": None})
    await bench.publish(second)
    bench.origin.remove()
    await bench.publish(first)

    assert bench.file("app.py") == "print(1)\n"
    assert bench.file("old.py") is not None
    assert f"image: {IMAGE}:{first}" in bench.file()


async def test_again_nothing_is_pushed(bench: Bench) -> None:
    commit = bench.origin.commit({"Dockerfile": "FROM scratch\n"})
    heads = [await bench.publish(commit), await bench.publish(commit)]
    pushes = [one for one in bench.ncp.requests if one.path.endswith("git-receive-pack") and one.method == "POST"]

    assert heads[0] == heads[1]
    assert len(pushes) == 1


async def test_only_what_is_new_is_transferred(bench: Bench, tmp_path: Path) -> None:
    bench.origin.commit({"large.bin": "x" * 300_000 + str(list(range(20000)))})
    await bench.bring(bench.origin.commit({"app.py": "1\n"}))
    before = bench.origin.git("count-objects", "-v", at=tmp_path / "mirrors" / "shop-production-1")
    bench.ncp.forget_requests()
    await bench.bring(bench.origin.commit({"app.py": "2\n"}))
    after = bench.origin.git("count-objects", "-v", at=tmp_path / "mirrors" / "shop-production-1")

    assert _objects(after) - _objects(before) == 3, "a commit, its tree, one file"


def _objects(counted: str) -> int:
    facts = dict(line.split(": ") for line in counted.splitlines())
    return int(facts["count"]) + int(facts["in-pack"])


async def test_a_manifest_of_the_repository_is_edited_and_nothing_else_in_it(bench: Bench) -> None:
    """Must show 5: byte for byte."""
    commit = bench.origin.commit({MANIFEST_PATH: WITH_COMMENTS})
    await bench.publish(commit)

    assert bench.file() == WITH_COMMENTS.replace("placeholder", f"{IMAGE}:{commit}")


async def test_a_manifest_that_klepaas_made_is_made_anew(bench: Bench) -> None:
    first = bench.origin.commit({"app.py": "1\n"})
    await bench.publish(first, replicas=2)
    second = bench.origin.commit({"app.py": "2\n"})
    await bench.bring(second)
    await bench.publish(second)

    assert "replicas: 1\n" in bench.file()


async def test_a_manifest_somebody_wrote_at_sourcecommit_is_kept_and_edited(bench: Bench) -> None:
    """As the older system left them, and as people correct them there."""
    first = bench.origin.commit({"app.py": "1\n"})
    await bench.publish(first)
    bench.there.commit({MANIFEST_PATH: WITH_COMMENTS}, message="For the sale")
    for text in ("2\n", "3\n"):
        commit = bench.origin.commit({"app.py": text})
        await bench.bring(commit)
        await bench.publish(commit)

        assert bench.file() == WITH_COMMENTS.replace("placeholder", f"{IMAGE}:{commit}")


async def test_a_manifest_that_was_removed_from_the_repository_stays_removed(bench: Bench) -> None:
    bench.origin.commit({MANIFEST_PATH: WITH_COMMENTS})
    commit = bench.origin.commit({MANIFEST_PATH: None})
    await bench.publish(commit)

    assert "for the sale" not in bench.file()


async def test_somebody_who_pushes_meanwhile_is_not_overwritten(bench: Bench) -> None:
    first = bench.origin.commit({"app.py": "1\n"})
    await bench.publish(first)
    second = bench.origin.commit({"app.py": "2\n"})
    both = await asyncio.gather(
        bench.publish(second), asyncio.to_thread(bench.there.commit, {"note.txt": "hello\n"}, message="A note")
    )

    assert bench.holds(both[0])
    assert bench.holds(both[1])


async def test_two_at_once_do_not_race(bench: Bench, tmp_path: Path) -> None:
    """Another process with another folder, as after a take-over."""
    other = Bench(bench.ncp, bench.origin, bench.there, mirrors_in(tmp_path / "others", bench.ncp))
    commits = [bench.origin.commit({"app.py": f"{number}\n"}) for number in range(2)]
    heads = await asyncio.gather(bench.publish(commits[0]), other.publish(commits[1]), bench.publish(commits[0]))

    assert all(bench.holds(head) for head in heads)


@pytest.mark.parametrize("kind", [Kind.LOSE_ANSWER, Kind.CUT, Kind.ERROR])
async def test_a_lost_answer_of_a_push_leaves_one_commit(bench: Bench, kind: Kind) -> None:
    commit = bench.origin.commit({"app.py": "1\n"})
    await bench.bring(commit)
    fault = Fault(kind=kind, times=1, door="git", methods=("POST",), path="*/git-receive-pack", status=503)
    bench.ncp.faults.add(fault)
    head = await bench.publish(commit)

    assert fault.times == 0
    assert bench.git("rev-list", "--count", f"{commit}..main") == "1"
    assert bench.there.head("main") == head


async def test_a_repository_that_git_does_not_find_yet_is_waited_for(bench: Bench) -> None:
    bench.ncp.faults.lags.git = 60
    there = bench.ncp.create_repository("team-new")
    commit = bench.origin.commit({"app.py": "1\n"})
    mirror = Mirror(name="new-production-1", git_url=there.clone_url, branch="main")

    assert await bench.mirrors.bring(bench.source, mirror, commit) == commit


async def test_a_folder_that_was_left_half_written_is_made_anew(bench: Bench, tmp_path: Path) -> None:
    commit = bench.origin.commit({"app.py": "1\n"})
    await bench.bring(commit)
    for pack in (tmp_path / "mirrors").rglob("*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(b"PACK")
    second = bench.origin.commit({"app.py": "2\n"})

    await bench.publish(second)
    assert bench.holds(second)


async def test_a_wrong_password_is_said_and_shown_nowhere(bench: Bench, tmp_path: Path) -> None:
    """S-05."""
    commit = bench.origin.commit({"app.py": "1\n"})
    mirrors = mirrors_in(tmp_path / "wrong", bench.ncp, password="wr0ng-and-s3cret")

    with pytest.raises(AuthenticationFailed, match="does not accept the user name and git password") as refused:
        await mirrors.bring(bench.source, bench.mirror, commit)
    assert "KLEPAAS_NCP_SOURCECOMMIT_PASSWORD" in refused.value.hint
    assert "wr0ng" not in repr(refused.value.evidence)


async def test_no_credential_is_on_the_disk(bench: Bench, tmp_path: Path) -> None:
    """S-05."""
    await bench.publish(bench.origin.commit({"app.py": "1\n"}))
    secret = bench.ncp.world.git_password.encode()

    assert not [path for path in tmp_path.rglob("*") if path.is_file() and secret in path.read_bytes()]


async def test_a_mirror_that_is_gone_is_said(bench: Bench) -> None:
    commit = bench.origin.commit({"app.py": "1\n"})
    gone = Mirror(name="gone-1", git_url=bench.there.clone_url.replace("team-shop", "team-gone"), branch="main")

    with pytest.raises(RepositoryNotFound, match="not at SourceCommit any more"):
        await bench.mirrors.bring(bench.source, gone, commit)


async def test_a_commit_that_is_nowhere_is_said(bench: Bench) -> None:
    bench.origin.commit({"app.py": "1\n"})

    with pytest.raises(CommitNotFound):
        await bench.bring("a" * 40)


@pytest.mark.parametrize("files", [{"k8s": "a file\n"}, {MANIFEST_PATH: b"\xff\xfe"}])
async def test_what_cannot_be_a_manifest_is_refused(bench: Bench, files: dict[str, str | bytes]) -> None:
    commit = bench.origin.commit(files)

    with pytest.raises(ManifestUnusable):
        await bench.publish(commit)

"""S-03: whatever a repository holds, a checkout writes only into its folder, and only so much."""

import asyncio
import os
import stat
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from klepaas.domain.repository import parse_repository
from klepaas.errors import KlepaasError, Rejected, RepositoryTooLarge
from klepaas.sources.checkout import Limits, Watch, size_of
from klepaas.sources.git import GitSource
from klepaas.sources.git_errors import Asked
from tests.servers.git_http import GitHttpServer, WorkingRepository, git
from tests.sources.conftest import MakeSource


@pytest.fixture
def shop(git_server: GitHttpServer) -> WorkingRepository:
    shop = git_server.create_repository("team/shop")
    shop.publish({"a": "b"})
    return shop


async def test_links_stay_links_wherever_they_point(
    source: GitSource, shop: WorkingRepository, into: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_text("precious")
    for name, target in (("passwd", "/etc/passwd"), ("up", "../../outside"), ("loop", "loop")):
        (shop.work / name).symlink_to(target)
    shop.publish({})

    await source.fetch(parse_repository(shop.url), branch="main", commit=None, into=into, credential=None)

    assert {name: os.readlink(into / name) for name in ("passwd", "up", "loop")} == {
        "passwd": "/etc/passwd",
        "up": "../../outside",
        "loop": "loop",
    }
    assert (tmp_path / "outside").read_text() == "precious"


async def test_a_failed_checkout_does_not_remove_what_its_links_point_to(
    make_source: MakeSource, shop: WorkingRepository, into: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("precious")
    (shop.work / "link").symlink_to(tmp_path / "outside")
    shop.publish({"large": bytes(2**20)})

    with pytest.raises(RepositoryTooLarge):
        await make_source(max_checkout_bytes=2**16).fetch(
            parse_repository(shop.url), branch="main", commit=None, into=into, credential=None
        )

    assert not into.exists()
    assert (tmp_path / "outside" / "precious").read_text() == "precious"


def tree(shop: WorkingRepository, *entries: tuple[str, str, str]) -> str:
    """A tree object with entries (mode, name, id) that git itself would not let anybody commit."""
    raw = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(sha) for mode, name, sha in entries)
    made = subprocess.run(
        ["git", "hash-object", "-t", "tree", "-w", "--literally", "--stdin"],
        cwd=shop.bare,
        input=raw,
        capture_output=True,
        check=True,
    )
    return made.stdout.decode().strip()


async def test_a_tree_that_writes_through_its_own_link_or_into_git_stays_inside(
    source: GitSource, shop: WorkingRepository, into: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (shop.work / "target").write_text(str(outside))
    (shop.work / "hook").write_text(f"#!/bin/sh\ntouch {outside}/ran\n")
    target, hook = (git("hash-object", "-w", str(shop.work / name), cwd=shop.bare) for name in ("target", "hook"))
    hooks = tree(shop, ("100755", "post-checkout", hook))
    trees = {
        "through-a-link": tree(
            shop, ("120000", "link", target), ("40000", "link", tree(shop, ("100644", "ran", hook)))
        ),
        "into-git": tree(shop, ("40000", ".git", tree(shop, ("40000", "hooks", hooks)))),
        "git-in-capitals": tree(shop, ("40000", ".GIT", tree(shop, ("40000", "hooks", hooks)))),
        "above": tree(shop, ("40000", "..", tree(shop, ("100644", "ran", hook)))),
        "above-by-slash": tree(shop, ("100644", "../ran", hook)),
    }
    errors = []
    for name, root in trees.items():
        sha = git("commit-tree", "-m", name, root, cwd=shop.bare)
        git("update-ref", f"refs/heads/{name}", sha, cwd=shop.bare)
        try:
            await source.fetch(parse_repository(shop.url), branch=name, commit=None, into=into / name, credential=None)
        except KlepaasError as error:
            errors.append((name, type(error)))

    assert ("into-git", Rejected) in errors
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "ran").exists()
    assert not (into / "ran").exists()
    assert all(path.resolve().is_relative_to(into) for path in into.rglob("*") if not path.is_symlink())


async def test_a_submodule_is_an_empty_folder_and_is_not_fetched(
    git_server: GitHttpServer, source: GitSource, shop: WorkingRepository, into: Path
) -> None:
    other = git_server.create_repository("team/other")
    sha = other.publish({"a": "b"})
    modules = f'[submodule "lib"]\n path = lib\n url = {other.url}\n update = !touch canary\n'
    (shop.work / ".gitmodules").write_text(modules)
    git("add", ".gitmodules", cwd=shop.work)
    git("update-index", "--add", "--cacheinfo", f"160000,{sha},lib", cwd=shop.work)
    git("commit", "-q", "-m", "with a submodule", cwd=shop.work)
    shop.push()

    await source.fetch(parse_repository(shop.url), branch="main", commit=None, into=into, credential=None)

    assert list((into / "lib").iterdir()) == []
    assert not (into / "canary").exists()


async def test_only_files_folders_and_links_come_out(source: GitSource, shop: WorkingRepository, into: Path) -> None:
    (shop.work / "run").write_text("#!/bin/sh\n")
    (shop.work / "run").chmod(0o4777)
    shop.publish({"folder/file": "x"})

    await source.fetch(parse_repository(shop.url), branch="main", commit=None, into=into, credential=None)

    for path in into.rglob("*"):
        mode = path.lstat().st_mode
        assert stat.S_ISREG(mode) or stat.S_ISDIR(mode)
        assert not mode & (stat.S_ISUID | stat.S_ISGID)


@pytest.mark.parametrize("commit", ["head", "sha"])
async def test_a_checkout_above_the_limit_is_refused_and_removed(
    make_source: MakeSource, shop: WorkingRepository, into: Path, commit: str
) -> None:
    sha = shop.publish({"zeros": bytes(48 * 2**20)})

    with pytest.raises(RepositoryTooLarge, match="is larger than 8 MiB"):
        await make_source(max_checkout_bytes=8 * 2**20).fetch(
            parse_repository(shop.url),
            branch="main",
            commit=sha if commit == "sha" else None,
            into=into,
            credential=None,
        )

    assert not into.exists()


async def test_the_limit_holds_while_the_folder_grows(tmp_path: Path) -> None:
    """A bomb of zeros is stopped on its way, not weighed afterwards."""
    repository = parse_repository("https://git.example.org/a/b.git")
    asked = Asked(repository=repository, branch="main", commit=None, credential=None)
    limits = Limits(max_bytes=10 * 2**20, min_free_bytes=0, silence=timedelta(seconds=60))

    async def grow() -> None:
        for number in range(100_000):
            (tmp_path / f"{number}").write_bytes(bytes(2**20))
            await asyncio.sleep(0.05)

    growing = asyncio.create_task(grow())
    with pytest.raises(RepositoryTooLarge):
        await Watch(tmp_path, limits, asked).until_trouble()
    growing.cancel()

    assert len(list(tmp_path.iterdir())) < 1000


def test_empty_files_have_a_weight(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number}").touch()

    assert size_of(tmp_path) > 100 * 100

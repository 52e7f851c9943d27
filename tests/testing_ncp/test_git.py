"""SourceCommit by the git program."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from klepaas.testing.ncp import StandInNcp
from tests.servers.git_http import git
from tests.testing_ncp.conftest import Cloud

QUIET = {"GIT_TERMINAL_PROMPT": "0"}


def url_of(ncp: StandInNcp, name: str = "team-shop", *, password: str | None = None) -> str:
    said = ncp.endpoints
    user = said["KLEPAAS_NCP_SOURCECOMMIT_USERNAME"]
    shown = quote(password or said["KLEPAAS_NCP_SOURCECOMMIT_PASSWORD"], safe="")
    return f"{ncp.url('git')}/{said['KLEPAAS_NCP_SOURCECOMMIT_PROJECT_ID']}/{name}.git".replace(
        "://", f"://{user}:{shown}@"
    )


def test_a_mirror_is_pushed_and_cloned(ncp: StandInNcp, cloud: Cloud, tmp_path: Path) -> None:
    cloud.result("sourcecommit", "POST", "/repository", {"name": "team-shop"})
    empty = cloud.result("sourcecommit", "GET", "/repository/team-shop/branch")
    git("init", "-q", "-b", "main", "here", cwd=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "First", cwd=tmp_path / "here")
    git("tag", "v1", cwd=tmp_path / "here")
    git("push", "-q", url_of(ncp), "main", "v1", cwd=tmp_path / "here")
    git("clone", "-q", url_of(ncp), "there", cwd=tmp_path)

    assert {"default": "", "branch": []} == empty
    assert {"default": "main", "branch": ["main"]} == cloud.result(
        "sourcecommit", "GET", "/repository/team-shop/branch"
    )
    assert {"tag": ["v1"]} == cloud.result("sourcecommit", "GET", "/repository/team-shop/tag")
    heads = [git("rev-parse", "HEAD", cwd=tmp_path / name) for name in ("here", "there")]
    assert [ncp.repositories["team-shop"].head()] * 2 == heads
    assert ["First"] == ncp.repositories["team-shop"].messages()


def test_a_push_over_http_starts_what_it_triggers(ncp: StandInNcp, cloud: Cloud, shop: None, tmp_path: Path) -> None:
    trigger = {"repository": [{"type": "sourcecommit", "name": "team-shop", "branch": "main"}]}
    cloud.pipeline(cloud.build_project(), cloud.deploy_project(), trigger=trigger)
    git("clone", "-q", url_of(ncp), "here", cwd=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "Next", cwd=tmp_path / "here")
    git("push", "-q", "origin", "main", cwd=tmp_path / "here")
    ncp.wait_for_runs()

    assert ["trigger"] == [run.request_type for run in ncp.pipelines]
    assert git("rev-parse", "HEAD", cwd=tmp_path / "here") == ncp.builds[0].commit_sha


def test_only_the_git_password_opens_it(ncp: StandInNcp, shop: None, tmp_path: Path) -> None:
    for url in (
        ncp.repositories["team-shop"].clone_url,
        url_of(ncp, password="wrong"),
        url_of(ncp, password=ncp.secret_key),
    ):
        with pytest.raises(AssertionError, match=r"could not read Username|Authentication failed"):
            git("ls-remote", url, cwd=tmp_path, env=QUIET)
    with pytest.raises(AssertionError, match="not found"):
        git("ls-remote", url_of(ncp).replace("/3000001/", "/3000002/"), cwd=tmp_path, env=QUIET)


def test_git_knows_a_new_repository_later(ncp: StandInNcp, cloud: Cloud, tmp_path: Path) -> None:
    ncp.faults.lags.git = 5000
    cloud.result("sourcecommit", "POST", "/repository", {"name": "team-shop"})
    with pytest.raises(AssertionError, match="not found"):
        git("ls-remote", url_of(ncp), cwd=tmp_path, env=QUIET)
    ncp.advance(timedelta(seconds=5))

    assert "" == git("ls-remote", url_of(ncp), cwd=tmp_path, env=QUIET)

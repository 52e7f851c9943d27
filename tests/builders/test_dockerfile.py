import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klepaas.builders.dockerfile import LARGEST_BYTES, choose, without_frontend
from klepaas.errors import (
    ContextUnusable,
    DockerfileAmbiguous,
    DockerfileEmpty,
    DockerfileNotFound,
    DockerfileUnusable,
    Invalid,
    KlepaasError,
)
from tests.builders.checkout import checkout

FROM = "FROM scratch\n"


def chosen(source: Path, dockerfile: str | None = None, context: str | None = None) -> tuple[str, str]:
    found = choose(source, dockerfile=dockerfile, context=context)
    return found.shown, found.context.relative_to(os.path.realpath(source)).as_posix()


def test_the_roots_dockerfile_is_built_whatever_else_there_is(tmp_path: Path) -> None:
    checkout(tmp_path, {"Dockerfile": FROM, "api/Dockerfile": FROM, "Dockerfile.dev": FROM})

    assert chosen(tmp_path) == ("Dockerfile", ".")


def test_the_only_dockerfile_is_built_in_its_own_folder(tmp_path: Path) -> None:
    checkout(tmp_path, {"services/api/Dockerfile": FROM, "README.md": "hello"})

    assert chosen(tmp_path) == ("services/api/Dockerfile", "services/api")


def test_the_setting_wins_and_its_context_is_the_root(tmp_path: Path) -> None:
    checkout(tmp_path, {"Dockerfile": FROM, "api/Dockerfile": FROM})

    assert chosen(tmp_path, "api/Dockerfile") == ("api/Dockerfile", ".")
    assert chosen(tmp_path, "./api//Dockerfile", "api") == ("api/Dockerfile", "api")
    assert chosen(tmp_path, None, "api") == ("Dockerfile", "api")


@pytest.mark.parametrize("name", ["Dockerfile.prod", "prod.Dockerfile", "dockerfile", "web.dockerfile"])
def test_a_variant_is_built_when_it_is_the_only_one(tmp_path: Path, name: str) -> None:
    checkout(tmp_path, {f"deploy/{name}": FROM})

    assert chosen(tmp_path) == (f"deploy/{name}", "deploy")


def test_a_plain_dockerfile_comes_before_its_variants(tmp_path: Path) -> None:
    checkout(tmp_path, {"api/Dockerfile": FROM, "api/Dockerfile.dev": FROM})

    assert chosen(tmp_path) == ("api/Dockerfile", "api")


@pytest.mark.parametrize(
    "name",
    [
        "node_modules/x/Dockerfile",
        "vendor/x/Dockerfile",
        ".git/Dockerfile",
        ".devcontainer/Dockerfile",
        "Dockerfile.dockerignore",
        "docs/Dockerfile.md",
        "templates/Dockerfile.j2",
        "MyDockerfile",
    ],
)
def test_what_is_not_the_apps_dockerfile_is_not_taken_for_it(tmp_path: Path, name: str) -> None:
    checkout(tmp_path, {name: FROM})

    with pytest.raises(DockerfileNotFound, match="Dockerfile not found in repository"):
        chosen(tmp_path)


def test_several_dockerfiles_are_listed(tmp_path: Path) -> None:
    checkout(tmp_path, {f"{name}/Dockerfile": FROM for name in ("web", "api")})

    with pytest.raises(DockerfileAmbiguous, match="`api/Dockerfile`, `web/Dockerfile`") as refused:
        chosen(tmp_path)
    assert refused.value.evidence["candidates"] == ["api/Dockerfile", "web/Dockerfile"]
    assert "dockerfile" in refused.value.hint


def test_of_very_many_dockerfiles_the_first_are_listed_and_the_rest_counted(tmp_path: Path) -> None:
    checkout(tmp_path, {f"s{number:02}/Dockerfile": FROM for number in range(33)})

    with pytest.raises(DockerfileAmbiguous, match=r"33 Dockerfiles.*and 13 more"):
        chosen(tmp_path)


def test_two_names_of_one_file_are_one_choice(tmp_path: Path) -> None:
    checkout(tmp_path, {"a/Dockerfile": FROM}).joinpath("b").mkdir()
    (tmp_path / "b" / "Dockerfile").symlink_to("../a/Dockerfile")

    assert chosen(tmp_path)[0] in {"a/Dockerfile", "b/Dockerfile"}


@pytest.mark.parametrize("text", ["", "\n \n", "# only a comment\n", "\ufeff# syntax=docker/dockerfile:1\n\n"])
def test_a_dockerfile_without_an_instruction_is_empty(tmp_path: Path, text: str) -> None:
    checkout(tmp_path, {"Dockerfile": text})

    with pytest.raises(DockerfileEmpty):
        chosen(tmp_path)


def test_a_named_dockerfile_that_is_missing_is_named(tmp_path: Path) -> None:
    checkout(tmp_path, {"Dockerfile": FROM})

    with pytest.raises(DockerfileNotFound, match=r"Dockerfile not found in repository.*`api/Dockerfile`"):
        chosen(tmp_path, "api/Dockerfile")


def test_a_missing_context_is_named(tmp_path: Path) -> None:
    checkout(tmp_path, {"Dockerfile": FROM, "file": ""})

    for context in ("nowhere", "file"):
        with pytest.raises(ContextUnusable, match=f"`{context}`.*no such folder"):
            chosen(tmp_path, None, context)


def test_links_inside_the_repository_are_followed(tmp_path: Path) -> None:
    checkout(tmp_path, {"build/Dockerfile.web": FROM, "real/x": ""})
    (tmp_path / "Dockerfile").symlink_to("build/Dockerfile.web")
    (tmp_path / "link").symlink_to("real")

    assert chosen(tmp_path, None, "link") == ("Dockerfile", "real")


@pytest.mark.parametrize("setting", [None, "Dockerfile"])
def test_a_dockerfile_that_links_out_of_the_repository_is_refused(tmp_path: Path, setting: str | None) -> None:
    """S-03"""
    outside = checkout(tmp_path / "outside", {"secret": FROM})
    source = checkout(tmp_path / "source", {"README": ""})
    (source / "Dockerfile").symlink_to(outside / "secret")

    with pytest.raises(DockerfileUnusable, match="leaves the repository"):
        chosen(source, setting)


def test_a_context_or_a_folder_that_links_out_of_the_repository_is_refused(tmp_path: Path) -> None:
    """S-03"""
    checkout(tmp_path / "outside", {"Dockerfile": FROM})
    source = checkout(tmp_path / "source", {"Dockerfile": FROM})
    (source / "out").symlink_to("../outside")

    with pytest.raises(ContextUnusable, match="leaves the repository"):
        chosen(source, None, "out")
    with pytest.raises(DockerfileUnusable, match="leaves the repository"):
        chosen(source, "out/Dockerfile")


def test_an_ignore_file_that_links_out_of_the_repository_is_refused(tmp_path: Path) -> None:
    """S-03: the docker program would read it."""
    checkout(tmp_path / "outside", {"secret": "x"})
    source = checkout(tmp_path / "source", {"Dockerfile": FROM})
    for name, error in ((".dockerignore", ContextUnusable), ("Dockerfile.dockerignore", DockerfileUnusable)):
        (source / name).symlink_to("../outside/secret")
        with pytest.raises(error):
            chosen(source)
        (source / name).unlink()


def test_devices_and_pipes_are_refused_without_being_opened(tmp_path: Path) -> None:
    """S-03: opening a pipe would hang."""
    source = checkout(tmp_path, {"ok/Dockerfile": FROM})
    os.mkfifo(source / "pipe")
    os.mkfifo(source / "ok" / ".dockerignore")

    with pytest.raises(DockerfileUnusable, match="is a device"):
        chosen(source, "pipe")
    with pytest.raises(DockerfileUnusable, match="is a folder"):
        chosen(source, "ok")
    with pytest.raises(ContextUnusable, match="ordinary file"):
        chosen(source, "ok/Dockerfile", "ok")


def test_a_huge_dockerfile_is_refused_without_being_read(tmp_path: Path) -> None:
    """S-03"""
    checkout(tmp_path, {"Dockerfile": FROM})
    os.truncate(tmp_path / "Dockerfile", 2**40)  # Sparse: it takes no room.

    with pytest.raises(DockerfileUnusable, match=f"at most {LARGEST_BYTES:,}"):
        chosen(tmp_path)


def test_circular_links_end(tmp_path: Path) -> None:
    """S-03"""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "again").symlink_to(".")

    with pytest.raises(DockerfileNotFound):
        chosen(tmp_path, "a")
    with pytest.raises(DockerfileNotFound):
        chosen(tmp_path)


@pytest.mark.parametrize(
    "path", ["../outside/Dockerfile", "/etc/passwd", "-f", "--privileged", "~/x", "a/../../x", "a\nb", "a\x00b", ""]
)
def test_settings_that_are_no_paths_inside_a_repository_are_refused(tmp_path: Path, path: str) -> None:
    """S-02, S-03"""
    checkout(tmp_path, {"Dockerfile": FROM})

    with pytest.raises(Invalid):
        chosen(tmp_path, path)
    with pytest.raises(Invalid):
        chosen(tmp_path, None, path)


_PIECES = st.sampled_from(
    [
        "..",
        ".",
        "/",
        "a",
        "Dockerfile",
        "out",
        "pipe",
        "loop",
        "-f",
        "$(touch canary)",
        ";",
        "`",
        "\x00",
        "\n",
        "é",
        " ",
    ]
)


@given(dockerfile=st.lists(_PIECES, max_size=6).map("".join), context=st.lists(_PIECES, max_size=6).map("".join))
def test_no_setting_leads_out_of_the_checkout(
    tmp_path_factory: pytest.TempPathFactory, dockerfile: str, context: str
) -> None:
    """S-01, S-02, S-03"""
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    source = folder / "source"
    if not source.exists():
        checkout(folder / "outside", {"Dockerfile": FROM})
        checkout(source, {"Dockerfile": FROM, "a/Dockerfile": FROM, "a/$(touch canary)/Dockerfile": FROM})
        (source / "out").symlink_to("../outside")
        (source / "loop").symlink_to("loop")
        os.mkfifo(source / "pipe")
    try:
        found = choose(source, dockerfile=dockerfile, context=context)
    except KlepaasError:
        return

    assert found.context.is_relative_to(os.path.realpath(source))
    assert found.text == FROM.encode()


@pytest.mark.parametrize(
    ("text", "shorter"),
    [
        (b"# syntax=docker/dockerfile:1\nFROM a\n", b"FROM a\n"),
        (b"\xef\xbb\xbf#syntax = docker.io/docker/dockerfile:1.7-labs\r\nFROM a\n", b"FROM a\n"),
        (b"# escape=`\n# syntax=docker/dockerfile-upstream:master\nFROM a", b"# escape=`\nFROM a"),
        (b"# syntax=example.org/other/frontend:1\nFROM a\n", None),
        (b"# a comment\n# syntax=docker/dockerfile:1\nFROM a\n", None),
        (b"FROM a\n", None),
    ],
)
def test_only_dockers_own_frontend_is_left_out(text: bytes, shorter: bytes | None) -> None:
    assert without_frontend(text) == shorter

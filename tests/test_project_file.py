"""The project file: every key is optional, and every mistake is told with its line and what would be accepted."""

import os
from pathlib import Path

import pytest

from klepaas import project_file
from klepaas.domain.project import ProjectSettings
from klepaas.errors import Invalid
from klepaas.project_file import KEYS, ProjectFile, parse, read

EVERYTHING = """
# all of it
port = 3000
health_path = "/health"
dockerfile = "app//Dockerfile"
context = "."
variables = ["DATABASE_URL", "LOG_LEVEL"]
release_command = "python manage.py 'migrate now'"
replicas = 2
target = "local"
"""


def problems(text: str) -> list[dict[str, object]]:
    with pytest.raises(Invalid) as refused:
        parse(text)
    found: list[dict[str, object]] = refused.value.evidence["problems"]
    return found


def test_an_empty_file_says_nothing() -> None:
    assert parse("") == ProjectFile()


def test_every_key_is_read() -> None:
    assert parse(EVERYTHING) == ProjectFile(
        settings={
            "port": 3000,
            "health_path": "/health",
            "dockerfile": "app/Dockerfile",
            "context": ".",
            "replicas": 2,
            "release_command": ("python", "manage.py", "migrate now"),
        },
        variables=("DATABASE_URL", "LOG_LEVEL"),
        target="local",
    )


def test_its_settings_are_settings_of_a_project() -> None:
    assert ProjectSettings(**parse(EVERYTHING).settings).port == 3000


def test_a_command_may_be_a_list_of_words() -> None:
    assert parse('release_command = ["sh", "-c", "true; true"]').settings["release_command"] == (
        "sh",
        "-c",
        "true; true",
    )


@pytest.mark.parametrize(
    "line",
    [
        "port = 0",
        "port = 65536",
        "port = true",
        'port = "3000"',
        "port = 80.5",
        'health_path = "health"',
        'health_path = "/a b"',
        "health_path = 1",
        'dockerfile = "../Dockerfile"',
        'dockerfile = "/etc/passwd"',
        'dockerfile = "-f"',
        'context = "a/../../b"',
        "context = []",
        'variables = "A"',
        'variables = ["A=b"]',
        "variables = [1]",
        'variables = ["PORT"]',
        "variables = {A = 'b'}",
        'release_command = ""',
        "release_command = []",
        "release_command = [1]",
        'release_command = "it\'s"',
        "replicas = -1",
        "replicas = 101",
        'target = "moon"',
        "target = 1979-05-27",
        "[port]",
        "colour = 1",
        "'odd key' = 1",
        "[health]\npath = '/'",
        "health.path = '/'",
    ],
)
def test_what_is_not_accepted_is_told_with_its_line(line: str) -> None:
    (problem,) = problems(f"# a comment\n\n{line}\n")

    assert problem["line"] == 3
    assert problem["accepted"] in {key.accepted for key in KEYS.values()} | {", ".join(KEYS)}


def test_a_line_inside_a_longer_value_is_not_mistaken_for_the_key() -> None:
    (problem,) = problems('release_command = """\nport = 1\n"""\nport = 0\n')

    assert problem["line"] == 4


def test_every_problem_is_told_in_the_order_of_the_file() -> None:
    assert [(p["line"], p["key"]) for p in problems("replicas = -1\nport = 0\ncolour = 1\n")] == [
        (1, "replicas"),
        (2, "port"),
        (3, "colour"),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [("port = 1\nport 2\n", 2), ("port = ", 1), ("a = 1\nb = '''\n\n", 3), ("port = 1\nport = 2\n", 2)],
)
def test_what_is_not_toml_is_told_with_its_line(text: str, line: int) -> None:
    assert [problem["line"] for problem in problems(text)] == [line]


def test_a_value_among_the_names_is_not_repeated() -> None:
    """Somebody may have written a secret there."""
    for text in ('variables = ["A=canary-secret"]', "variables = {A = 'canary-secret'}"):
        with pytest.raises(Invalid) as refused:
            parse(text)
        assert "canary" not in f"{refused.value.message}{refused.value.hint}{refused.value.evidence}"


def test_the_sentence_names_file_and_line() -> None:
    with pytest.raises(Invalid, match=r"^klepaas\.toml:2: port is 0, and must be from 1 to 65535$"):
        parse("\nport = 0")


def test_a_repository_without_the_file_is_fine(tmp_path: Path) -> None:
    assert read(tmp_path) is None


def test_s03_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("port = 1")
    (tmp_path / "klepaas.toml").symlink_to(tmp_path / "secret")

    with pytest.raises(Invalid):
        read(tmp_path)


def test_s03_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "klepaas.toml")

    with pytest.raises(Invalid, match="ordinary file"):
        read(tmp_path)


@pytest.mark.parametrize(("content", "said"), [(b"#" * 70000, "64 KiB"), (b"a = 1\nb = '\xff'", ":2: not UTF-8")])
def test_s03_a_file_nobody_wrote_by_hand_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "klepaas.toml").write_bytes(content)

    with pytest.raises(Invalid, match=said):
        read(tmp_path)


def test_s03_a_folder_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "klepaas.toml").mkdir()

    with pytest.raises(Invalid, match="ordinary file"):
        read(tmp_path)


def test_windows_line_ends_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    (tmp_path / "klepaas.toml").write_bytes(b"\xef\xbb\xbfport = 1\r\nreplicas = 2\r\n")

    assert read(tmp_path) == ProjectFile(settings={"port": 1, "replicas": 2})


def test_paths_that_the_repository_does_not_have_are_found(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").touch()
    (tmp_path / "klepaas.toml").write_text('dockerfile = "Dockerfile"\ncontext = "app"\n')

    assert [(p.line, p.key) for p in project_file.missing(tmp_path)] == [(2, "context")]

"""What the READMEs tell people to type is there."""

import re
from pathlib import Path

import pytest

from klepaas.settings import NcpSettings

HOUSE = Path(__file__).parents[2]
READMES = ("README.md", "README.ko.md")


def _of_naver(readme: str) -> str:
    text = (HOUSE / readme).read_text()
    return next(section for section in text.split("\n## ") if "--target ncp --connection" in section)


@pytest.mark.parametrize("readme", READMES)
def test_every_setting_of_naver_cloud_that_is_named_there_is_one(readme: str) -> None:
    named = re.findall(r"(?:KLEPAAS_NCP|…)_([A-Z_]+)", _of_naver(readme))

    assert named
    assert [name for name in named if name.lower() not in NcpSettings.model_fields] == []


def _commands(readme: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (HOUSE / readme).read_text(), re.DOTALL)
    return [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]


def test_both_languages_have_the_same_commands() -> None:
    english, korean = map(_commands, READMES)

    assert english == korean
    assert "klepaas projects create owner/repo --target ncp --connection owner --auto-deploy" in english


@pytest.mark.parametrize(
    "kind",
    [
        r"KLEPAAS_[A-Z_]+(?:=[^\s`)]+)?",
        r"```toml\n.*?```",
        r"`[^`\n]*klepaas [^`\n]+`",
        r"`(?:\./run|--)[^`\n]+`",
        r"`/[a-z][^`\n]*`",
        r"\]\((?!README)[^)]+\)",
        r"\b(?:Last-Event-ID|secret\.key|switch_failed_budget)\b",
    ],
    ids=["settings", "project files", "verbs", "options", "paths", "links", "names"],
)
def test_both_languages_name_the_same(kind: str) -> None:
    english, korean = (set(re.findall(kind, (HOUSE / readme).read_text(), re.DOTALL)) for readme in READMES)

    assert english == korean != set()


@pytest.mark.parametrize("readme", READMES)
def test_the_limits_of_time_that_are_told_there_are_those_of_the_settings(readme: str) -> None:
    fields, section = NcpSettings.model_fields, _of_naver(readme)
    build, deploy = fields["build_deadline"].default, fields["deploy_deadline"].default

    assert re.search(
        rf"{build.total_seconds() / 60:g}( minutes|분).*?\b{deploy.total_seconds() / 60:g}(:|분)", section, re.S
    )

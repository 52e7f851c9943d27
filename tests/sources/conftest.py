"""A GitSource with room to work, and short patience with networks."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from klepaas.sources.git import GitSource

MakeSource = Callable[..., GitSource]


@pytest.fixture
def make_source(tmp_path: Path) -> MakeSource:
    """Make a GitSource; every argument has a default that suits a test."""

    def make(**chosen: object) -> GitSource:
        given: dict[str, object] = {
            "allow_local": False,
            "network_timeout": timedelta(seconds=60),
            "environment": os.environ,
            "scratch": tmp_path / "scratch",
        }
        return GitSource(**{**given, **chosen})  # type: ignore[arg-type]

    return make


@pytest.fixture
def source(make_source: MakeSource) -> GitSource:
    return make_source()


@pytest.fixture
def into(tmp_path: Path) -> Path:
    """A folder that does not exist, nor does its parent."""
    return tmp_path / "work" / "checkout"

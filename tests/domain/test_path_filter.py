from time import thread_time

import pytest

from klepaas.domain.path_filter import any_counts


@pytest.mark.parametrize(
    ("patterns", "path", "counts"),
    [
        ([], "anything", True),
        (["services/shop/**"], "services/shop/app.py", True),
        (["services/shop/**"], "services/shop/a/b/c.py", True),
        (["services/shop/**"], "services/shop", False),
        (["services/shop/**"], "services/shopping/app.py", False),
        (["services/shop"], "services/shop/app.py", True),
        (["services/shop"], "services/shopping", False),
        (["*.toml"], "klepaas.toml", True),
        (["*.toml"], "deep/klepaas.toml", False),
        (["**/*.toml"], "klepaas.toml", True),
        (["**/*.toml"], "a/b/klepaas.toml", True),
        (["a/**/z"], "a/z", True),
        (["a/**/z"], "a/b/c/z", True),
        (["a/**/z"], "a/b/c", False),
        (["**"], "a/b", True),
        (["app.??"], "app.py", True),
        (["app.??"], "app.pyc", False),
        (["[ab].py"], "a.py", False),
        (["[ab].py"], "[ab].py", True),
        (["**", "!docs/**"], "docs/use.md", False),
        (["**", "!docs/**", "docs/api/**"], "docs/api/x.md", True),
        (["!docs/**"], "docs/use.md", False),
        (["!docs/**"], "app.py", True),
        (["가게/**"], "가게/앱.py", True),
    ],
)
def test_patterns_choose_files(patterns: list[str], path: str, counts: bool) -> None:
    assert any_counts(patterns, [path]) is counts


def test_one_file_of_many_is_enough_and_none_is_not() -> None:
    assert any_counts(["a/**"], ["b/c", "a/b"])
    assert not any_counts(["a/**"], [])


@pytest.mark.parametrize("pattern", ["*a" * 60, "**/" * 60 + "z", "*a*/" * 30])
def test_no_pattern_takes_long(pattern: str) -> None:
    began = thread_time()
    any_counts([pattern], ["a" * 200 + "/" + "a/" * 200 + "b"])

    assert thread_time() - began < 2, "seconds of computing, however busy the machine is"

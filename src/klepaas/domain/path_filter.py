"""Which files of a repository a project is about: `services/shop/**`, `*.toml`, `!docs/**`.

`*` and `?` stay inside one folder, `**` crosses them, a folder's name stands for everything below it. The last pattern
that fits a file decides, and `!` takes away; when the first pattern takes away, every other file counts."""

from collections.abc import Iterable, Sequence


def any_counts(patterns: Sequence[str], paths: Iterable[str]) -> bool:
    """Whether one of these files is the project's. Without patterns every file is."""
    if not patterns:
        return True
    rules = [(not pattern.startswith("!"), _segments(pattern.removeprefix("!"))) for pattern in patterns]
    return any(_counts(rules, path.split("/")) for path in paths)


def _segments(pattern: str) -> list[str]:
    return [part for part in pattern.split("/") if part not in {"", "."}]


def _counts(rules: Sequence[tuple[bool, Sequence[str]]], path: Sequence[str]) -> bool:
    for adds, pattern in reversed(rules):
        if _fits(pattern, path):
            return adds
    return not rules[0][0]


def _fits(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """No regular expressions: a pattern is somebody's input, and must not be able to take long."""
    reached = _skip_stars(pattern, {0})
    for name in path:
        if len(pattern) in reached:
            return True  # the pattern named a folder, and this is below it
        stars = {place for place in reached if pattern[place] == "**"}
        after = {place + 1 for place in reached - stars if _fits_name(pattern[place], name)}
        after |= stars | {len(pattern) for place in stars if place == len(pattern) - 1}
        reached = _skip_stars(pattern, after)
    return len(pattern) in reached


def _skip_stars(pattern: Sequence[str], places: set[int]) -> set[int]:
    """`**` may also stand for no folder at all; as the last part it wants something below."""
    found = set(places)
    for place in sorted(places):
        while place < len(pattern) - 1 and pattern[place] == "**":
            place += 1
            found.add(place)
    return found


def _fits_name(pattern: str, name: str) -> bool:
    """One file or folder name against `*` and `?`, going back to the last star only."""
    at = place = 0
    star, resume = -1, 0
    while at < len(name):
        if place < len(pattern) and pattern[place] == "*":
            star, resume = place, at
            place += 1
        elif place < len(pattern) and pattern[place] in ("?", name[at]):
            at, place = at + 1, place + 1
        elif star >= 0:
            resume += 1
            at, place = resume, star + 1
        else:
            return False
    return all(rest == "*" for rest in pattern[place:])

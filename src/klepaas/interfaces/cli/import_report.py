"""What came of sending an older history, added up over its parts."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from klepaas.domain.old_row import TIMES, names_its_zone, read_time
from klepaas.interfaces.cli.old_database import OldDatabase


def report(old: OldDatabase, answers: Sequence[dict[str, Any]], *, is_applied: bool) -> dict[str, Any]:
    rows = [row for answer in answers for row in answer["rows"]]
    refused = [text for answer in answers for text in answer["refused"]]
    projects: dict[str, list[str]] = {}
    for answer in answers:
        projects |= answer["projects"]
    problems = Counter(problem for row in rows for problem in {each["problem"] for each in row["findings"]})
    return {
        "source": old.name,
        "applied": is_applied,
        "rows_found": len(old.deployments),
        "projects_found": len(old.projects),
        "local_times": sum(map(_has_local_time, old.deployments)),
        "problems": dict(sorted(problems.items())),
        "outcomes": dict(sorted(Counter(row["outcome"] for row in rows if row["twin_of"] is None).items())),
        "new": sum(row["is_new"] for row in rows),
        "settled": sum(row["is_settled"] for row in rows),
        "known": sum(not row["is_new"] and not row["is_settled"] for row in rows),
        "changed": sum(answer["changed"] for answer in answers),
        "refused": refused,
        "projects": projects,
        "rows": rows,
    }


def _has_local_time(row: Any) -> bool:
    return any(read_time(row.get(name)) is not None and not names_its_zone(row.get(name)) for name in TIMES)

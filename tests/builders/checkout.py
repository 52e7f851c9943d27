"""A checked-out commit in a folder, and requests to build it."""

import secrets
from pathlib import Path

from klepaas.builders.protocol import BuildRequest
from klepaas.domain.project import App


def checkout(folder: Path, files: dict[str, str]) -> Path:
    """Write these files (path inside the repository: text) as if git had checked them out."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def some_app() -> App:
    """An app whose name no other test uses."""
    name = f"shop-production-{secrets.token_hex(4)}"
    return App(project_id=f"p-{name}", environment="production", name=name)


def some_commit() -> str:
    return secrets.token_hex(20)


def request_for(
    source: Path, app: App, *, commit_sha: str = "", dockerfile: str | None = None, context: str | None = None
) -> BuildRequest:
    return BuildRequest(
        app=app,
        deployment_id="d-1",
        commit_sha=commit_sha or some_commit(),
        source=source,
        dockerfile=dockerfile,
        context=context,
    )


class Lines(list[str]):
    """Collects a build log; pass `lines.add` to the builder."""

    async def add(self, line: str) -> None:
        self.append(line)

    @property
    def text(self) -> str:
        return "\n".join(self)

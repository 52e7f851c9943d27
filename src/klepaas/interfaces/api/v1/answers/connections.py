"""Connections, as callers get them: never the secret."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from pydantic import ConfigDict

from klepaas.domain.connection import Connection, ConnectionKind
from klepaas.domain.project import Project
from klepaas.interfaces.api.v1.answers.answer import EXAMPLE_SHA, Answer, example_of
from klepaas.interfaces.api.v1.answers.projects import ProjectName


class ConnectionAnswer(Answer):
    """Everything about a credential but the credential."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "con_8a9b0c1d2e3f4051",
                    "owner_id": "own_5e6f708192a3b4c5",
                    "kind": "git_basic",
                    "name": "forge",
                    "host": "git.example.org",
                    "installation_id": None,
                    "account": None,
                    "created_at": "2026-01-05T09:00:00Z",
                },
                {
                    "id": "gh_5f60718293a4b5c6",
                    "owner_id": "own_5e6f708192a3b4c5",
                    "kind": "github_token",
                    "name": "dana",
                    "host": "github.com",
                    "installation_id": None,
                    "account": "dana-kim",
                    "created_at": "2026-01-05T09:00:00Z",
                },
            ]
        }
    )
    id: str
    owner_id: str
    kind: ConnectionKind
    name: str
    host: str | None
    """The only server that may be told it; null: that of any project it is given to."""
    installation_id: str | None
    account: str | None
    """Who GitHub says it is; said when it was just added."""
    created_at: datetime

    @classmethod
    def of(cls, connection: Connection, account: str | None = None) -> "ConnectionAnswer":
        return cls(**asdict(connection), account=account)


class ConnectionList(Answer):
    model_config = ConfigDict(json_schema_extra={"examples": [{"connections": [example_of(ConnectionAnswer)]}]})
    connections: list[ConnectionAnswer]


class VerificationAnswer(Answer):
    """The server accepts the credential; when it does not, the answer is an error that says what it said."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"account": None, "branch": "main", "commit_sha": EXAMPLE_SHA},
                {"account": "dana-kim", "branch": None, "commit_sha": None},
            ]
        }
    )
    account: str | None
    """Who GitHub says it is; null for other servers."""
    branch: str | None
    commit_sha: str | None
    """At the head of the branch; null when no repository was asked for."""


class RemovedConnectionAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "con_8a9b0c1d2e3f4051",
                    "name": "forge",
                    "projects": [{"id": "prj_0f9d1c2b3a495867", "name": "shop"}],
                }
            ]
        }
    )
    id: str
    name: str
    projects: list[ProjectName]
    """Those that used it; they have no connection now."""

    @classmethod
    def of(cls, connection: Connection, projects: Sequence[Project]) -> "RemovedConnectionAnswer":
        left = [ProjectName(id=project.id, name=project.name) for project in projects]
        return cls(id=connection.id, name=connection.name, projects=left)

"""Projects and the names of their variables, as callers get them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ConfigDict

from klepaas.domain.project import Project
from klepaas.domain.trigger_rule import TriggerRule
from klepaas.interfaces.api.v1.answers.answer import EXAMPLE_SETTINGS, Answer, example_of


class ProjectName(Answer):
    id: str
    name: str


class ProjectAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "prj_0f9d1c2b3a495867",
                    "number": 1,
                    "name": "shop",
                    "repository": "octo-org/shop",
                    "branch": "main",
                    "environment": "production",
                    "target": "local",
                    "settings": EXAMPLE_SETTINGS,
                    "auto_deploy": False,
                    "rules": TriggerRule().model_dump(mode="json"),
                    "connection_id": None,
                    "github_repository_id": None,
                    "owner_id": "own_5e6f708192a3b4c5",
                    "created_at": "2026-01-05T09:00:00Z",
                    "updated_at": "2026-01-05T09:00:00Z",
                }
            ]
        }
    )
    id: str
    number: int
    name: str
    repository: str
    branch: str
    environment: str
    target: str
    settings: dict[str, Any]
    auto_deploy: bool
    rules: dict[str, Any]
    """When pushes and releases deploy it, while `auto_deploy` is on."""
    connection_id: str | None
    github_repository_id: int | None
    """GitHub's own number of the repository, once it was learnt."""
    owner_id: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, project: Project) -> "ProjectAnswer":
        return cls(
            id=project.id,
            number=project.number,
            name=project.name,
            repository=project.repository.display,
            branch=project.branch,
            environment=project.environment,
            target=project.target,
            settings=project.settings.model_dump(mode="json"),
            auto_deploy=project.auto_deploy,
            rules=project.rules.model_dump(mode="json"),
            connection_id=project.connection_id,
            github_repository_id=project.github_repository_id,
            owner_id=project.owner_id,
            created_at=project.created_at,
            updated_at=project.updated_at,
        )


class ProjectList(Answer):
    model_config = ConfigDict(json_schema_extra={"examples": [{"projects": [example_of(ProjectAnswer)]}]})
    projects: list[ProjectAnswer]


class VariableName(Answer):
    name: str
    updated_at: datetime


class VariableNames(Answer):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"variables": [{"name": "LOG_LEVEL", "updated_at": "2026-01-05T09:00:00Z"}]}]}
    )
    variables: list[VariableName]

    @classmethod
    def of(cls, names: Mapping[str, datetime]) -> "VariableNames":
        return cls(variables=[VariableName(name=name, updated_at=names[name]) for name in sorted(names)])

"""What every answer is, and what examples speak of."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from klepaas.domain.project import ProjectSettings

EXAMPLE_SHA = "9fceb02d0ae598e95dc970b74767f19372d61af8"
EXAMPLE_DIGEST = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
EXAMPLE_SETTINGS = ProjectSettings(health_path="/health", hosts=("shop.example.org",)).model_dump(mode="json")


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


def example_of(answer: type[BaseModel], which: int = 0) -> dict[str, Any]:
    """An example of an answer, for those of the answers that hold one."""
    return examples_of(answer)[which]


def examples_of(model: type[BaseModel]) -> list[dict[str, Any]]:
    shown: Any = model.model_config.get("json_schema_extra", {})
    examples: list[dict[str, Any]] = shown.get("examples", [])
    return examples

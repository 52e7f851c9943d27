"""Examples in the description of the API, word for word: FastAPI leaves out whatever is null in them."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from klepaas.interfaces.api.v1.answers.answer import Answer, examples_of
from klepaas.interfaces.api.v1.bodies import Storable


def restore(schemas: dict[str, Any]) -> None:
    """Give the schemas of what is sent and answered, by name, the examples as their models have them."""
    for model in (*_kinds(Answer), *_kinds(Storable)):
        if model.__name__ in schemas and (examples := examples_of(model)):
            schemas[model.__name__]["examples"] = examples


def _kinds(of: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for each in of.__subclasses__():
        yield each
        yield from _kinds(each)

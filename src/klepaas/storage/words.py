"""Text as both databases keep it. A container's last words may hold what PostgreSQL refuses; that must not stop
the deployment whose failure they explain."""

from typing import Any, TypeVar, cast

from klepaas.domain.events import Event, event_from

E = TypeVar("E", bound=Event)


def keepable(value: Any) -> Any:
    """The value with every zero byte and half surrogate pair in it shown as `�`."""
    match value:
        case str():
            return value.replace("\0", "�").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {keepable(name): keepable(item) for name, item in value.items()}
        case list() | tuple():
            return type(value)(keepable(item) for item in value)
        case _:
            return value


def keepable_event(event: E) -> E:
    data = event.data()
    kept = keepable(data)
    return event if kept == data else cast(E, event_from(event.kind, kept))

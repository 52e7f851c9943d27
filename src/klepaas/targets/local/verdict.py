"""What a probe's answer means, in words that tell people what to change. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from klepaas.domain.project import ProjectSettings
from klepaas.targets.local.probe import Answer, Failure
from klepaas.targets.local.sockets import Listener

_CLAUSES = {
    401: "the path asks for a login; give a health path that is open",
    403: "the path is forbidden to the probe; give a health path that is open",
    404: "the app has no such path; set the project's health path to one that answers",
    421: "the app does not serve this host name",
    429: "the app limits how often it is asked; leave the health path out of the limit",
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`clause` says what came back; `sentence` also says what it means and what to change."""

    ready: bool
    clause: str
    sentence: str


def verdict_of(
    answer: Answer, settings: ProjectSettings, *, host: str, port: int, listening: Sequence[Listener] | None
) -> Verdict:
    """Judge one answer. `port` is the one the app should listen on; `listening` None when it was not looked at."""
    if answer.status is not None:
        return _of_status(answer.status, answer.headers.get("location", ""), settings, host)
    match answer.failure:
        case Failure.NOT_HTTP:
            clause = f"not HTTP: it began with '{answer.heard}'"
            return _not_ready(clause, f"The app answers on port {port}, but it does not speak HTTP ({answer.heard}).")
        case Failure.SLOW:
            clause = f"no answer within {answer.took_ms / 1000:.0f} s"
            return _not_ready(clause, _silent(clause, port, settings.health_path, listening))
        case Failure.REFUSED:
            return _not_ready("connection refused", _unreached(port, listening, refused=True))
        case _:
            clause = "connection closed without an answer"
            return _not_ready(clause, _unreached(port, listening, refused=False))


def _of_status(status: int, location: str, settings: ProjectSettings, host: str) -> Verdict:
    path = settings.health_path
    ready = status < 500 if path == "/" else 200 <= status < 400
    clause = f"HTTP {status}"
    if 300 <= status < 400 and location:
        clause += f", a redirect to {location[:200]}"
    if ready:
        return Verdict(ready=True, clause=clause, sentence=f"GET {path} answers {clause}.")
    reason = _CLAUSES.get(status, "the app reports an error; its log says more" if status >= 500 else "")
    if status in {400, 421}:
        reason = f"{reason or 'the app refuses the request'} (the probe asked for host '{host}')"
    return _not_ready(clause, f"GET {path} answers {clause}{': ' + reason if reason else ''}.")


def _silent(clause: str, port: int, path: str, listening: Sequence[Listener] | None) -> str:
    if listening is not None and not _at(port, listening):
        return _unreached(port, listening, refused=False)
    return f"The app accepts the connection on port {port}, but GET {path} gets {clause}."


def _unreached(port: int, listening: Sequence[Listener] | None, *, refused: bool) -> str:
    if listening is None:
        what = "refused" if refused else "closed without an answer"
        return (
            f"The connection to port {port} of the container was {what}: nothing listens there, or it listens on "
            f"127.0.0.1 only. Listen on 0.0.0.0:{port} (PORT is set to {port})."
        )
    if not listening:
        return f"Nothing listens in the container. Listen on 0.0.0.0:{port} (PORT is set to {port})."
    right = _at(port, listening)
    if not right:
        ports = sorted({listener.port for listener in listening})
        other = f"{ports[0]}" if len(ports) == 1 else f"one of {', '.join(map(str, ports))}"
        inside = " It also listens on loopback only: use 0.0.0.0." if all(one.is_loopback for one in listening) else ""
        return (
            f"Your app listens on {_named(listening)} inside its container, and klepaas asks on port {port}. Listen on "
            f"$PORT, or set the project's port to {other}.{inside}"
        )
    if all(listener.is_loopback for listener in right):
        return (
            f"Your app listens on {_named(right)} inside its container, where nobody outside can reach it. "
            f"Listen on 0.0.0.0:{port}."
        )
    if not refused:
        only6 = " Or it listens on IPv6 only: listen on 0.0.0.0." if all(":" in one.host for one in right) else ""
        return f"The app accepts connections on port {port} and closes them without an HTTP answer.{only6}"
    return f"The connection to port {port} was refused although the app listens on {_named(right)}."


def _at(port: int, listening: Sequence[Listener]) -> list[Listener]:
    return [listener for listener in listening if listener.port == port]


def _named(listening: Sequence[Listener]) -> str:
    return ", ".join(str(listener) for listener in listening[:5])


def _not_ready(clause: str, sentence: str) -> Verdict:
    return Verdict(ready=False, clause=clause, sentence=sentence)

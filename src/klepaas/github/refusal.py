"""What GitHub says no with, as errors of ours. No sentence holds a credential, whatever GitHub sends back."""

import httpx

from klepaas.domain.connection import Connection
from klepaas.errors import AuthenticationFailed, CommitNotFound, KlepaasError, Rejected, RepositoryNotFound, Unavailable
from klepaas.logs import without_secrets

MAX_WORDS = 300


def refusal(answer: httpx.Response, *, who: str, repository: str | None, secret: str) -> KlepaasError:
    """`who` asked (`the connection forge`) about `repository` (None: about none) with `secret`, which stays unsaid."""
    words = words_of(answer, secret)
    said = f"GitHub says: {words}" if words else f"GitHub answered {answer.status_code}."
    evidence = {"status": answer.status_code, "words": words}
    if answer.status_code >= 500:
        return Unavailable(f"GitHub cannot answer now ({answer.status_code}).", evidence=evidence)
    match answer.status_code:
        case 401:
            return AuthenticationFailed(
                f"GitHub does not accept {who}. {said}",
                hint="Look whether it was revoked or has run out, and whether the clock of this machine is right.",
                evidence=evidence,
            )
        case 404 if repository is not None:
            return RepositoryNotFound(
                f"GitHub has no {repository}, or {who} may not see it.",
                hint="Correct the name, or give the project a connection that may read it.",
                evidence=evidence,
            )
        case 422 if words.startswith("No commit found"):
            return CommitNotFound(f"GitHub does not know this commit in {repository}.", evidence=evidence)
        case 403:
            return Rejected(
                f"GitHub does not allow this to {who}. {said}",
                hint="Give it the permission it lacks, on GitHub.",
                evidence=evidence,
            )
    about = f" about {repository}" if repository else ""
    return Rejected(f"GitHub refuses a request{about} of {who}. {said}", evidence=evidence)


def words_of(answer: httpx.Response, secret: str = "") -> str:
    """GitHub's message in one line, without what looks like a credential."""
    try:
        body = answer.json()
    except ValueError:
        return ""
    message = body.get("message") if isinstance(body, dict) else None
    text = " ".join(str(message or "").split())
    if secret:
        text = text.replace(secret, "…")
    return without_secrets("".join(c for c in text if c.isprintable()))[:MAX_WORDS]


def not_understood(answer: httpx.Response | None = None) -> Rejected:
    """The other side is no GitHub, or a newer one than we know."""
    evidence = {"status": answer.status_code} if answer is not None else {}
    return Rejected(
        "What GitHub answered cannot be understood.",
        hint="Look whether the address of its API is right (KLEPAAS_GITHUB_API_URL).",
        evidence=evidence,
    )


def shown_by(connection: Connection | None) -> str:
    return f"the connection {connection.name}" if connection is not None else "a request without a connection"

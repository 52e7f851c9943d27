"""What git said, as our errors. git tells reasons only in words; with LC_ALL=C they are these.

Source: git 2.34 to 2.51 (`remote-curl.c`, `fetch-pack.c`, `upload-pack.c`, `builtin/clone.c`), libcurl's
`strerror.c` and OpenSSH.
"""

import base64
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from urllib.parse import quote, quote_plus

from klepaas.domain.connection import Credential
from klepaas.domain.repository import Repository
from klepaas.errors import (
    AuthenticationFailed,
    BranchNotFound,
    CommitNotFound,
    DiskFull,
    KlepaasError,
    NetworkTimeout,
    Rejected,
    RepositoryNotFound,
    Unavailable,
)

_SHOWN_BRANCHES = 5
_EVIDENCE_LINES = 20


@dataclass(frozen=True, kw_only=True, repr=False)
class Asked:
    """What a call was about, for its sentences."""

    repository: Repository
    branch: str
    commit: str | None
    credential: Credential | None


def explain(lines: Iterable[str], asked: Asked) -> KlepaasError:
    """The reason why git failed, from the lines it printed."""
    said = [line for line in lines if line and not _PROGRESS.match(line)]
    evidence = {"git": redact("\n".join(said[-_EVIDENCE_LINES:]), asked.credential)}
    # A line that begins with "remote:" is the server's free text; it decides nothing.
    ours = "\n".join(line for line in said if not line.startswith("remote:"))
    for pattern, kind, sentence, hint in _with_credential() if asked.credential else _without_credential():
        if pattern.search(ours):
            words = {"repository": asked.repository.display, "branch": asked.branch, "commit": asked.commit or ""}
            return kind(sentence.format(**words), hint=hint, evidence=evidence)
    return Unavailable(
        f"git could not fetch from {asked.repository.display}.", hint="See what git said.", evidence=evidence
    )


def branch_not_found(asked: Asked, branches: Sequence[str], reason: KlepaasError | None = None) -> BranchNotFound:
    """Name the branches that exist, those that are spelled alike first."""
    name = asked.repository.display
    alike = get_close_matches(asked.branch, branches[:500], n=_SHOWN_BRANCHES, cutoff=0.6)
    shown = list(dict.fromkeys([*alike, *branches]))[:_SHOWN_BRANCHES]
    more = f" and {len(branches) - len(shown)} more" if len(branches) > len(shown) else ""
    return BranchNotFound(
        f"{name} has no branch '{asked.branch}'.",
        hint=f"It has {', '.join(shown)}{more}." if shown else "It has no branches at all: push a commit first.",
        evidence={"branches": shown, **(reason.evidence if reason else {})},
    )


def commit_not_found(asked: Asked, *, in_branch: bool = False, reason: KlepaasError | None = None) -> CommitNotFound:
    where = f"branch '{asked.branch}' of {asked.repository.display}" if in_branch else asked.repository.display
    return CommitNotFound(
        f"There is no commit {asked.commit} in {where}.",
        hint="It may not have been pushed, or a force-push has removed it.",
        evidence=reason.evidence if reason else {},
    )


def refuses_unadvertised(lines: Iterable[str]) -> bool:
    """Whether the server only hands out what a branch or tag shows, so that the commit may exist all the same."""
    return any(re.search(r"unadvertised object|want \w+ not valid", line) for line in lines)


def redact(text: str, credential: Credential | None) -> str:
    """The text without the credential in any form git could print it, and without user names in URLs."""
    if credential is not None and credential.password:
        secret = credential.password
        pair = f"{credential.username or 'x-access-token'}:{secret}"
        forms = {base64.b64encode(form.encode()).decode() for form in (pair, secret)}
        forms |= {secret, json.dumps(secret)[1:-1], quote(secret), quote(secret, safe=""), quote_plus(secret)}
        for form in sorted(forms, key=len, reverse=True):
            text = text.replace(form, "…").replace(form.rstrip("="), "…")
    return re.sub(r"(?<=://)[^/@\s'\"]*@", "", text)


_PROGRESS = re.compile(r"^(remote: )?[A-Z][A-Za-z ]+: +(\d+% \(|\d+(, done\.?)?$)|^Cloning into ")

_Saying = tuple[re.Pattern[str], type[KlepaasError], str, str]


def _sayings(*rows: tuple[str, type[KlepaasError], str, str]) -> tuple[_Saying, ...]:
    return tuple((re.compile(pattern, re.IGNORECASE), kind, sentence, hint) for pattern, kind, sentence, hint in rows)


_ALWAYS = _sayings(
    (
        r"No space left on device|Disk quota exceeded",
        DiskFull,
        "The disk is too full to check {repository} out.",
        "Free some space where klepaas keeps its state, then deploy again.",
    ),
    (
        r"Remote branch .+ not found in upstream|couldn't find remote ref|bad revision 'refs/heads/",
        BranchNotFound,
        "{repository} has no branch '{branch}'.",
        "",
    ),
    (
        r"not our ref|unadvertised object|want \w+ not valid|reference is not a tree|non-commit",
        CommitNotFound,
        "There is no commit {commit} in {repository}.",
        "It may not have been pushed, or a force-push has removed it.",
    ),
    (
        r"Operation too slow|timed out|Timeout was reached",
        NetworkTimeout,
        "The server of {repository} took too long to answer.",
        "Try again; if it stays slow, look at the network between klepaas and the server.",
    ),
    (
        r"Could not resolve (host|proxy)|Name or service not known|Temporary failure in name resolution",
        Unavailable,
        "The name of the server of {repository} cannot be resolved.",
        "Check the address of the repository and the name service of this machine.",
    ),
    (
        r"Connection refused|Failed to connect|Couldn't connect to server|No route to host|Network is unreachable",
        Unavailable,
        "The server of {repository} does not accept connections.",
        "Check its address, or try again when it is up.",
    ),
    (
        r"SSL certificate|certificate verif|SSL_connect|TLS connect|unable to get local issuer",
        Unavailable,
        "The certificate of the server of {repository} is not trusted here.",
        "Name the CA's file in SSL_CERT_FILE of the machine klepaas runs on.",
    ),
    (
        r"Host key verification failed",
        AuthenticationFailed,
        "The ssh host key of the server of {repository} is not known here.",
        "Add it to known_hosts of the user klepaas runs as, e.g. with ssh-keyscan.",
    ),
    (
        r"Permission denied \(",
        AuthenticationFailed,
        "The server of {repository} refuses the ssh key of klepaas.",
        "Add the public key of the user klepaas runs as to the server as a deploy key.",
    ),
    (
        r"returned error: (429|5\d\d)",
        Unavailable,
        "The server of {repository} cannot answer now.",
        "Try again later.",
    ),
    (
        r"returned error: 30[1-8]",
        RepositoryNotFound,
        "{repository} has moved to another address, and klepaas does not send its credential there.",
        "Give the project the new address of its repository.",
    ),
    (
        r"transport '[^']*' not allowed|protocol '[^']*' is not supported",
        RepositoryNotFound,
        "{repository} is not an address klepaas may fetch from.",
        "Give owner/repo, or an https or ssh URL.",
    ),
    (
        r"repository '.*' not found|Repository not found|does not appear to be a git repository"
        r"|returned error: (404|410)|not valid: is this a git repository",
        RepositoryNotFound,
        "The repository {repository} was not found or is not allowed.",
        "Check its spelling; a private repository needs a connection that may read it.",
    ),
    (
        r"error: invalid path '",
        Rejected,
        "{repository} holds a path that git refuses to check out.",
        "Remove the path from the repository; see what git said.",
    ),
    (
        r"unexpected disconnect|early EOF|hung up unexpectedly|RPC failed|transfer closed|Connection reset"
        r"|Empty reply|invalid index-pack output|bad line length",
        Unavailable,
        "The connection to the server of {repository} broke off.",
        "Try again.",
    ),
)


def _with_credential() -> tuple[_Saying, ...]:
    return _DENIED_WITH + _ALWAYS


def _without_credential() -> tuple[_Saying, ...]:
    return _DENIED_WITHOUT + _ALWAYS


_DENIED = r"could not read (Username|Password)|Authentication failed|returned error: 40[13]"
_DENIED_WITH = _sayings(
    (
        _DENIED,
        AuthenticationFailed,
        "The server of {repository} refuses the project's credential.",
        "It may have expired or may not read this repository: renew the connection.",
    )
)
_DENIED_WITHOUT = _sayings(
    (
        # Servers answer for a private repository as for one that does not exist.
        _DENIED,
        RepositoryNotFound,
        "The repository {repository} was not found or is not allowed.",
        "Check its spelling; a private repository needs a connection that may read it.",
    )
)

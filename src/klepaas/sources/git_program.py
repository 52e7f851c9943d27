"""The git program as klepaas calls it: what it may see, which protocols it may speak, how it gets a credential.

A credential reaches git only through its environment, which no other user can read, as a header that git sends to
that one host; with it, redirects are not followed. It is never an argument, part of a URL or in a file.
"""

import base64
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

from klepaas import processes
from klepaas.domain.connection import Credential
from klepaas.domain.repository import Repository, SourceKind
from klepaas.errors import AuthenticationFailed, NotAllowed

_PASSED_ON = {
    "PATH",
    *(f"{kind}_PROXY" for kind in ("HTTPS", "ALL", "NO")),
    *(f"{kind}_proxy" for kind in ("http", "https", "all", "no")),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH"),
}
"""Variables of ours that git may see: where programs are, the proxy, and whom to trust."""

_CONFIG = Path(__file__).with_name("gitconfig")
_LOCAL_CONFIG = Path(__file__).with_name("gitconfig-local")


class GitProgram:
    def __init__(self, *, allow_local: bool, network_timeout: timedelta, environment: Mapping[str, str]) -> None:
        self._allow_local = allow_local
        self._network_timeout = network_timeout
        self._environment = {name: value for name, value in environment.items() if name in _PASSED_ON}

    def url(self, repository: Repository) -> str:
        """What git is given as the repository. Errors: NotAllowed for one of this machine without permission."""
        if repository.kind is not SourceKind.LOCAL:
            return repository.location
        if not self._allow_local:
            raise NotAllowed(
                "Repositories on this machine are not allowed here.",
                hint="Use an https or ssh URL, or let the operator start klepaas with KLEPAAS_LOCAL_REPOSITORIES=true.",
            )
        # As a URL, because git ignores --depth for a path and copies the whole history.
        return f"file://{quote(repository.location)}"

    def environment(self, repository: Repository, credential: Credential | None) -> dict[str, str]:
        """Everything git sees. Errors: AuthenticationFailed when the credential would travel in the clear."""
        local = repository.kind is SourceKind.LOCAL
        config = {
            "http.lowSpeedTime": str(max(1, int(self._network_timeout.total_seconds()))),
            **_authorization(repository, credential),
        }
        return {
            **self._environment,
            "LC_ALL": "C",
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(_LOCAL_CONFIG if local else _CONFIG),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "file" if local else "https:http:ssh",
            "GIT_SSH_COMMAND": f"ssh -o BatchMode=yes -o ConnectTimeout={config['http.lowSpeedTime']}",
            "GIT_SSH_VARIANT": "ssh",
            "GIT_CONFIG_COUNT": str(len(config)),
            **{f"GIT_CONFIG_KEY_{i}": key for i, key in enumerate(config)},
            **{f"GIT_CONFIG_VALUE_{i}": value for i, value in enumerate(config.values())},
        }

    async def tell(
        self, args: Sequence[str], *, env: Mapping[str, str], cwd: Path = Path("/"), stdin: bytes | None = None
    ) -> processes.Finished:
        """Run git to its end. The default folder is one where it finds no repository by itself."""
        return await processes.run(["git", *args], env=env, cwd=cwd, stdin=stdin)


def _authorization(repository: Repository, credential: Credential | None) -> dict[str, str]:
    if credential is None or repository.scheme not in {"https", "http"}:
        return {}
    if not repository.keeps_secrets:
        raise AuthenticationFailed(
            f"{repository.display} is reached without encryption, so its credential was not sent.",
            hint="Use the https address of the repository.",
        )
    if credential.host is not None and repository.host != credential.host:
        raise AuthenticationFailed(
            f"{repository.display} is at {repository.host}, and its credential is for {credential.host} only, so it "
            "was not sent.",
            hint=f"Give the project a connection for {repository.host}.",
        )
    parts = urlsplit(repository.location)
    pair = base64.b64encode(f"{credential.username or 'x-access-token'}:{credential.password}".encode()).decode()
    return {
        # git would send the header on to the host it is redirected to.
        "http.followRedirects": "false",
        f"http.{parts.scheme}://{parts.netloc}/.extraHeader": f"Authorization: Basic {pair}",
    }

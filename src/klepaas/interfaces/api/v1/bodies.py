"""What callers may send. Unknown fields are refused: a typing error must not be ignored in silence."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from klepaas.domain.actor import Scope
from klepaas.domain.connection import ConnectionKind

MAX_TEXT = 2000

_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


Text = Annotated[str, Field(max_length=MAX_TEXT)]
"""What it may mean is for the operation to say."""


class Storable(BaseModel):
    @model_validator(mode="before")
    @classmethod
    def _storable(cls, body: Any) -> Any:
        """Refuse what JSON can say and no database can take, wherever it stands; says nothing of what stood there."""
        left = [body]
        while left:  # no recursion: the nesting is the caller's choice
            match left.pop():
                case str() as text if "\0" in text or _HALF_CHARACTER.search(text):
                    raise ValueError("a text in it holds a zero byte or half a character")
                case dict() as fields:
                    left.extend((*fields, *fields.values()))
                case list() as items:
                    left.extend(items)
        return body


class Body(Storable):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NewProject(Body):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"repository": "octo-org/shop"},
                {
                    "repository": "octo-org/shop",
                    "connection_id": "octo-org",
                    "auto_deploy": True,
                    "rules": {"pushes": "merges", "paths": ["services/shop/**"]},
                },
                {
                    "repository": "https://git.example.org/team/shop.git",
                    "name": "shop",
                    "branch": "main",
                    "environment": "staging",
                    "settings": {"port": 3000, "health_path": "/health"},
                },
            ]
        }
    )
    repository: Text
    """`owner/repo` on GitHub, an https or ssh URL, or (if the operator allows it) a path on klepaas's machine."""
    name: Text | None = None
    """Unset: made from the repository's name."""
    branch: Text | None = None
    """Unset: the branch the operator chose for all, else `main`."""
    environment: Text = "production"
    target: Text = "local"
    settings: dict[str, Any] = Field(default_factory=dict)
    connection_id: Text | None = None
    """Id or name of the connection that opens the repository. Unset: everybody may read it."""
    auto_deploy: bool = False
    """Whether pushes and releases at GitHub deploy it, as its rules say."""
    rules: dict[str, Any] = Field(default_factory=dict)
    """When: `pushes` (`merges` or `every_push`), `paths`, `releases`, `wait_for_checks`, `after_rollback` (`deploy` or
    `hold`)."""


class ProjectChanges(Body):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"branch": "release"},
                {"settings": {"memory_bytes": 268435456}},
                {"auto_deploy": True, "rules": {"wait_for_checks": True}},
            ]
        }
    )
    repository: Text | None = None
    """Another repository drops the connection unless one is named here too."""
    branch: Text | None = None
    settings: dict[str, Any] | None = None
    """Only the settings to change."""
    connection_id: Text | None = None
    """Id or name; an empty text takes the connection away."""
    auto_deploy: bool | None = None
    rules: dict[str, Any] | None = None
    """Only the rules to change; null makes one as usual again."""


class VariableChanges(Body):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"variables": {"LOG_LEVEL": "info", "OLD_NAME": None}}]},
        hide_input_in_errors=True,
    )
    variables: dict[str, str | None]
    """Values by name; null removes. Names not given here stay as they are."""


class NewDeployment(Body):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{}, {"branch": "main"}, {"commit": "9fceb02d0ae598e95dc970b74767f19372d61af8"}]}
    )
    branch: Text | None = None
    commit: Text | None = None
    """A SHA or a prefix of at least 7 digits. Unset: the head of the branch when it is fetched."""
    environment: Text | None = None
    rebuild: bool = False
    """Build again although an image of this commit exists."""
    note: Text = ""


class NewRollback(Body):
    """Either `steps_back` or `commit`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"steps_back": 1}, {"commit": "9fceb02"}, {"steps_back": 2, "dry_run": True}]}
    )
    steps_back: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """1 is the previous release."""
    commit: Text | None = None
    environment: Text | None = None
    dry_run: bool = False
    """Only say what would change."""


class NewToken(Body):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "ci of the shop", "scope": "deploy", "lifetime_days": 90}]}
    )
    name: Text
    scope: Scope
    lifetime_days: Annotated[float, Field(gt=0, le=3650, allow_inf_nan=False)] | None = None
    """Unset: until it is revoked."""
    owner: Text | None = None
    """For the operator: whose token it is; the owner is made when new. Unset: the caller's own."""


class NewConnection(Body):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "forge",
                    "kind": "git_basic",
                    "username": "deploy-bot",
                    "password": "…",
                    "host": "git.example.org",
                },
                {"name": "dana", "kind": "github_token", "password": "…"},
                {"name": "octo-org", "kind": "github_app", "installation_id": "47000001", "owner": "team"},
            ]
        },
        hide_input_in_errors=True,
    )
    name: Text
    """Yours to choose, once per owner."""
    kind: ConnectionKind = ConnectionKind.GIT_BASIC
    username: Text = ""
    """Unset: for servers that ask for nothing but a token."""
    password: Annotated[SecretStr, Field(max_length=4096)] | None = None
    """Password or token. Sealed, and never given back. Not for the kind `github_app`, which needs none."""
    host: Text | None = None
    """For `git_basic`: the only server that may be told it: `git.example.org`, or with a port. Unset: that of any
    project it is given to."""
    server: Text | None = None
    """For `github_token`: the GitHub Enterprise Server it is for. Unset: the GitHub of this klepaas."""
    installation_id: Text | None = None
    """For `github_app`, which only the operator may add: the installation of this klepaas's App."""
    owner: Text | None = None
    """For `github_app`: whose connection it is. Unset: the caller's own."""


class Verification(Body):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"repository": "https://git.example.org/team/shop.git", "branch": "main"}]}
    )
    repository: Text | None = None
    """What it is to open. Needed for `git_basic`; a GitHub connection can be verified without."""
    branch: Text | None = None

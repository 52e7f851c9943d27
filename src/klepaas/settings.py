"""Every setting of klepaas, read once from the environment (`KLEPAAS_…`) and handed down in parts.

This is the only module that reads the environment. Nested fields join with two underscores:
`KLEPAAS_DEADLINES__BUILD=20m`. A duration is given as `1200` (seconds), `20m`, `1h30m`, `00:20:00` or `PT20M` (ISO
8601)."""

import base64
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from klepaas import durations


def _as_written(value: object) -> object:
    return durations.parse(value) if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_as_written)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Deadlines(_Part):
    """How long a part of a deployment may take before it ends with that reason."""

    fetch: Duration = timedelta(minutes=10)
    build: Duration = timedelta(minutes=10)
    publish: Duration = timedelta(minutes=10)
    release: Duration = timedelta(minutes=5)
    verify: Duration | None = None
    """How long a new release may take until it is ready, where its project allows less. Unset: what the project says
    (`health_timeout_s`)."""
    promote: Duration = timedelta(minutes=1)
    retire: Duration = timedelta(minutes=70)
    """Longer than the longest drain a project may ask for."""
    deployment: Duration = timedelta(minutes=30)
    """From the moment it starts to run until it is live. Waiting in the queue does not count."""


class EngineSettings(_Part):
    """The durable engine: who works on what, and when work of a dead process is taken over."""

    lease: Duration = timedelta(seconds=15)
    """A process that has not renewed for this long loses its work to another one (PostgreSQL)."""
    beat: Duration = timedelta(seconds=3)
    """Rest between two renewals; also how soon a cancellation asked of another process is obeyed."""
    poll: Duration = timedelta(seconds=1)
    """Rest between two looks for work submitted elsewhere; local submissions wake the engine at once."""
    capacity: Annotated[int, Field(ge=1, le=5000)] = 8
    """Deployments that one process carries at the same time."""
    attempts: Annotated[int, Field(ge=1)] = 20
    """A deployment claimed more often than this (it crashes its owner) ends as failed."""


class DockerSettings(_Part):
    host: str | None = None
    """`unix:///…` of the engine. Unset: DOCKER_HOST, the docker context, then the usual sockets."""
    build_memory_bytes: Annotated[int, Field(ge=64 * 2**20)] = 2 * 2**30
    """Memory one build step may use."""
    min_free_bytes: Annotated[int, Field(ge=0)] = 2**30
    """A build is refused when the disk has less than this free."""
    max_image_bytes: Annotated[int, Field(ge=2**20)] = 10 * 2**30
    """A built image larger than this is refused."""
    warm_for: Duration = timedelta(minutes=10)
    """How long the previous release stays frozen for a rollback in milliseconds. 0 keeps none."""
    metadata_address: Literal["closed", "open"] = "closed"
    """Whether containers on the engine's bridge, builds and apps, reach 169.254.169.254, where a cloud hands out its
    machine's credentials. `open` is for apps that work with those."""
    port_range: tuple[int, int] = (20000, 29999)
    """Loopback ports for containers and front doors; below the kernel's ephemeral range on purpose."""


class ProxySettings(_Part):
    http_listen: str = ""
    """Where custom host names are served, e.g. `:80`. Empty: only as `127.0.0.1:port` of each app."""
    https_listen: str = ""
    """Where custom host names are served with TLS, e.g. `:443`. Certificates come by ACME."""
    acme_email: str = ""
    acme_directory: str = ""
    """ACME directory URL. Empty: Caddy's default (Let's Encrypt, then ZeroSSL)."""


class ReconcilerSettings(_Part):
    interval: Duration = timedelta(seconds=30)
    """Rest between two looks at everything. What a place tells of itself (a container that ends) is looked at at
    once."""


class RetentionSettings(_Part):
    keep: Duration = timedelta(days=90)
    """How long logs of builds, last words of containers that are gone, and what watchers saw stay: a day at least.
    Deployments, their events and their evidence stay for good."""

    @field_validator("keep")
    @classmethod
    def _a_day(cls, value: timedelta) -> timedelta:
        if value < timedelta(days=1):
            raise ValueError("it is less than a day; give e.g. 90d")  # a bare 90 is seconds
        return value


class WebhookSettings(_Part):
    answer_within: Duration = timedelta(milliseconds=800)
    """How long GitHub waits for what a delivery means before it hears that it was accepted. It gives up after 10 s."""
    keep: Duration = timedelta(days=30)
    """How long deliveries stay in the inbox after they were decided."""


class BranchesSettings(_Part):
    interval: Duration = timedelta(seconds=60)
    """Rest between two looks at the branches that deploy by themselves. Webhooks are quicker; this finds what they
    missed."""


class ServerSettings(_Part):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8700
    max_body_bytes: Annotated[int, Field(ge=1024)] = 1024 * 1024
    """A larger request body is refused with 413; webhooks have their own limit."""
    keep_alive: Duration = timedelta(seconds=15)
    """Rest between two keep-alive comments of an event stream."""


class NcpSettings(BaseSettings):
    """Naver Cloud. Read from `KLEPAAS_NCP_…` with one underscore, the names that older installations use."""

    model_config = SettingsConfigDict(env_prefix="KLEPAAS_NCP_", env_ignore_empty=True, frozen=True, extra="ignore")

    access_key: SecretStr | None = None
    """Of the account that everything is made with; a sub account's is enough."""
    secret_key: SecretStr | None = None
    region: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{1,9}$")] = "KR"
    sourcecommit_endpoint: str = "https://sourcecommit.apigw.ntruss.com"
    sourcebuild_endpoint: str = "https://sourcebuild.apigw.ntruss.com"
    sourcedeploy_endpoint: str = "https://vpcsourcedeploy.apigw.ntruss.com"
    """Of the VPC platform: the classic one has no Kubernetes targets."""
    sourcepipeline_endpoint: str = "https://vpcsourcepipeline.apigw.ntruss.com"
    nks_endpoint: str = "https://nks.apigw.ntruss.com"
    container_registry_url: str | None = None
    """Host of the registry, without a scheme, e.g. `acme.kr.ncr.ntruss.com`."""
    container_registry_name: str | None = None
    """What SourceBuild calls the registry. Unset: the first part of its host."""
    registry_auth_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Further hosts that the registry may send to for its tokens; they are shown the keys. Commas between them."""
    sourcecommit_username: str | None = None
    """The sub account that pushes to SourceCommit by git."""
    sourcecommit_password: SecretStr | None = None
    """The git password set for it in the console; not the console's own."""
    sourcecommit_project_id: str | None = None
    """The seven digits in SourceCommit's git addresses."""
    nks_cluster_id: str | None = None
    """UUID of the cluster that new projects deploy to; the number SourceDeploy knows it by is accepted too."""
    cluster_access: Literal["auto", "always", "never"] = "auto"
    """Whether a deployment counts only once its rollout was seen in the cluster. `auto`: when the keys may look."""
    calls_per_minute: Annotated[int, Field(ge=2, le=6000)] = 120
    """How often one service is asked for one account, by this process; half of it is for watching runs."""
    build_deadline: Duration = timedelta(minutes=30)
    """How long a build may take at SourceBuild. Its own limit there is an hour."""
    deploy_deadline: Duration = timedelta(minutes=5)
    """How long SourceDeploy and the rollout may take together; then the outcome is unknown until it is seen."""
    look_every: Duration = timedelta(seconds=5)
    """Rest between two looks at the runs of one project. With many under way it is longer: `calls_per_minute` holds."""
    watch_every: Duration = timedelta(minutes=5)
    """Rest between two looks at an app that nothing is deployed to."""
    runs_appear_within: Duration = timedelta(seconds=60)
    """A run that was started may be missing from its history for so long."""
    images_appear_within: Duration = timedelta(seconds=120)
    """A tag that was pushed may be missing from the registry for so long."""
    answer_within: Duration = timedelta(seconds=30)
    registry_answer_within: Duration = timedelta(seconds=10)

    @field_validator(
        "sourcecommit_endpoint",
        "sourcebuild_endpoint",
        "sourcedeploy_endpoint",
        "sourcepipeline_endpoint",
        "nks_endpoint",
    )
    @classmethod
    def _address(cls, value: str) -> str:
        return _plain_url(value)

    @field_validator("access_key", "secret_key", "sourcecommit_password")
    @classmethod
    def _nothing_is_unset(cls, value: SecretStr | None) -> SecretStr | None:
        """Blanks around a key come from copying it, and would make every signature wrong."""
        given = value.get_secret_value().strip() if value is not None else ""
        return SecretStr(given) if given else None

    def deadlines(self, usual: Deadlines) -> Deadlines:
        """Of deployments to Naver Cloud. Mirroring takes its part of the build's and of the release's."""
        build, release = self.build_deadline + usual.fetch, self.deploy_deadline + usual.publish
        whole = max(usual.deployment, usual.fetch + build + release + self.deploy_deadline)
        changes = {"build": build, "release": release, "verify": self.deploy_deadline, "deployment": whole}
        return usual.model_copy(update=changes)

    @property
    def registry_name(self) -> str | None:
        return self.container_registry_name or (self.container_registry_url or "").partition(".")[0] or None

    @field_validator("sourcecommit_username", "sourcecommit_project_id", "nks_cluster_id", "container_registry_name")
    @classmethod
    def _blank_is_unset(cls, value: str | None) -> str | None:
        return (value or "").strip() or None

    @field_validator("registry_auth_hosts", mode="before")
    @classmethod
    def _hosts(cls, value: object) -> object:
        return _split_hosts(value)

    @field_validator("container_registry_url")
    @classmethod
    def _registry(cls, value: str | None) -> str | None:
        given = (value or "").strip().rstrip("/")
        host = given.partition("://")[2] or given
        if host and not re.fullmatch(r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?", host):
            raise ValueError("give the registry's host only, e.g. acme.kr.ncr.ntruss.com")
        return host.lower() or None


class TestingSettings(_Part):
    """For the fault harness only."""

    __test__ = False
    crash_at: str = ""
    """Name of the transition at which this process kills itself, e.g. `promote.recorded`."""
    stop_at: str = ""
    """Name of the transition at which this process stops itself (SIGSTOP)."""
    record_to: str = ""
    """File to which every transition that is reached is appended, one a line."""


def _default_home() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/klepaas")
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "klepaas"


class Settings(BaseSettings):
    """The whole tree. Build it once, in `wiring.py` or at a program's start."""

    model_config = SettingsConfigDict(env_prefix="KLEPAAS_", env_nested_delimiter="__", frozen=True, extra="ignore")

    home: Path = Field(default_factory=_default_home)
    """All state of klepaas: database, key, logs, work folders, proxy files."""
    database_url: SecretStr | None = None
    """SQLAlchemy style. Unset: SQLite in `home`."""
    encryption_key: SecretStr | None = None
    """32 bytes, URL-safe base64. Unset: made on the first start in `home/secret.key` (0600)."""
    local_repositories: bool = False
    """Whether projects may use paths and `file://` of this machine as repositories."""
    public_url: str | None = None
    """Where people and GitHub reach this klepaas, e.g. `https://klepaas.example.org`. For links and webhooks."""
    github_url: str = "https://github.com"
    """GitHub, or the operator's GitHub Enterprise Server, e.g. `https://github.example.org`."""
    github_api_url: str | None = None
    """Its REST API. Unset: `https://api.github.com`, or `/api/v3` of a GitHub Enterprise Server."""
    github_app_id: Annotated[str, Field(pattern=r"^[0-9]{1,20}$")] | None = None
    """The GitHub App of this klepaas. Unset: the one made by `klepaas github connect`."""
    github_app_private_key: SecretStr | None = Field(default=None, validate_default=True)
    """Its key: PEM, also with `\\n` for line ends or in base64, or the path of a file that holds it."""
    github_app_webhook_secret: SecretStr | None = None
    """What GitHub signs the App's webhooks with."""
    github_webhook_secret: SecretStr | None = None
    """What webhooks set up by hand are signed with; read only while the App has no secret."""
    github_branch_main: Annotated[str, Field(max_length=240, pattern=r"^[^\s~^:?*\[\\-][^\s~^:?*\[\\]*$")] = "main"
    """The branch of new projects that name none."""
    outbound_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Servers with addresses of a private network that users may name, e.g. a GitHub Enterprise Server; commas
    between them. Any other such address is refused."""
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    deadlines: Deadlines = Deadlines()
    engine: EngineSettings = EngineSettings()
    docker: DockerSettings = DockerSettings()
    proxy: ProxySettings = ProxySettings()
    reconciler: ReconcilerSettings = ReconcilerSettings()
    branches: BranchesSettings = BranchesSettings()
    server: ServerSettings = ServerSettings()
    retention: RetentionSettings = RetentionSettings()
    webhooks: WebhookSettings = WebhookSettings()
    ncp: NcpSettings = Field(default_factory=NcpSettings)
    testing: TestingSettings = TestingSettings()
    docker_host_env: str | None = Field(default=None, validation_alias="DOCKER_HOST")

    @field_validator("github_url", "github_api_url", "public_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return None if value is None else _plain_url(value)

    @field_validator("github_app_webhook_secret", "github_webhook_secret")
    @classmethod
    def _nothing_is_unset(cls, value: SecretStr | None) -> SecretStr | None:
        """An empty secret would let everybody sign."""
        return value if value is not None and value.get_secret_value().strip() else None

    @field_validator("github_app_private_key")
    @classmethod
    def _private_key(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        given = value.get_secret_value().strip() if value is not None else ""
        if bool(given) != bool(info.data.get("github_app_id")) and "github_app_id" in info.data:
            raise ValueError("KLEPAAS_GITHUB_APP_ID and KLEPAAS_GITHUB_APP_PRIVATE_KEY belong together")
        return SecretStr(_pem(given)) if given else None

    @field_validator("outbound_hosts", mode="before")
    @classmethod
    def _hosts(cls, value: object) -> object:
        return _split_hosts(value)

    @property
    def github_api(self) -> str:
        """The REST API of the operator's GitHub."""
        return self.github_api_url or api_of(self.github_url)


def api_of(github_url: str) -> str:
    """Where the REST API of a GitHub is, without a slash at its end."""
    is_github = urlsplit(github_url).hostname == "github.com"
    return "https://api.github.com" if is_github else f"{github_url.rstrip('/')}/api/v3"


def _split_hosts(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(host.lower() for part in value.split(",") if (host := part.strip()))


def _plain_url(text: str) -> str:
    """An https address, or an http one, without credentials, query and the slash at its end."""
    url = text.strip().rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname or not url.isprintable() or " " in url:
        raise ValueError("give an address such as https://github.example.org")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("give the address without a user name, password, query or fragment")
    return url


def _pem(given: str) -> str:
    """A private key as an operator may give it, as PEM. Says nothing of what it holds when it cannot be read."""
    text = given.replace("\\n", "\n")
    if "-----BEGIN" not in text:
        text = _from_file(given) if given.startswith(("/", "./", "~")) else _from_base64(given)
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("it is no RSA private key in PEM, in base64 or in a file")
    return text


def _from_file(path: str) -> str:
    try:
        return Path(path).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the file {path[:200]} cannot be read") from error


def _from_base64(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except ValueError as error:
        raise ValueError("it is no RSA private key in PEM, in base64 or in a file") from error


_FOR_GIT = (
    "PATH",
    "NO_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "ALL_PROXY",
    "GIT_SSL_CAINFO",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)


def process_environment() -> dict[str, str]:
    """What programs we start may need to know of this machine: where programs are, proxies, CA certificates."""
    return {name: os.environ[key] for name in _FOR_GIT for key in (name, name.lower()) if key in os.environ}


def own_environment() -> dict[str, str]:
    """Everything this process was given, for a child that is klepaas itself."""
    return dict(os.environ)


class ClientSettings(BaseSettings):
    """What the command line needs to know of its surroundings; both values override a stored login."""

    model_config = SettingsConfigDict(env_prefix="KLEPAAS_", frozen=True, extra="ignore")

    home: Path = Field(default_factory=_default_home)
    """The login is stored below it, in `cli/credentials.json`."""
    url: str | None = None
    """Where klepaas answers, e.g. `http://127.0.0.1:8700`."""
    token: SecretStr | None = None

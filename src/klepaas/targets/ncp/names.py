"""The names of a chain at Naver Cloud, within its limits and alphabet, and the same each time they are asked for.

`{owner}-{repo}` does not tell `a-b/c` from `a/b-c`: where another project holds a name already, the suffixed ones are
used, or the request is refused; that is for whoever knows the other projects."""

import hashlib
import re
from dataclasses import dataclass

from klepaas.errors import Invalid

STAGE = "production"
SCENARIO = "deploy-app"
MAX_REPOSITORY, MAX_BUILD, MAX_DEPLOY, MAX_PIPELINE, MAX_IMAGE, MAX_APP = 100, 80, 100, 30, 200, 63
_HASH_DIGITS = 6
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_IMAGE = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_APP = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


@dataclass(frozen=True, kw_only=True)
class ChainNames:
    """Of everything that is made for one repository. `app` is the name in the cluster."""

    repository: str
    build: str
    deploy: str
    pipeline: str
    image: str
    app: str


def chain_names(owner: str, repo: str, *, is_suffixed: bool = False, apart: str = "") -> ChainNames:
    """Names say when something was replaced or cut, by a hash of the repository's full name.

    `is_suffixed`: all of them carry the hash, because another project holds the plain ones; `apart` goes into it, to
    tell two projects of one repository apart."""
    mark = _mark(owner, f"{repo}{apart}")
    plain = f"{owner}-{repo}"

    def name(prefix: str, limit: int) -> str:
        wanted = f"{prefix}{plain}"
        kept = re.sub(r"[^A-Za-z0-9_-]", "-", wanted)
        return _marked(kept, mark, limit, is_marked=is_suffixed or kept != wanted)

    return ChainNames(
        repository=name("", MAX_REPOSITORY),
        build=name("build-", MAX_BUILD),
        deploy=name("deploy-", MAX_DEPLOY),
        pipeline=name("pipeline-", MAX_PIPELINE),
        image=image_name(owner, repo, is_suffixed=is_suffixed, mark=mark),
        app=app_name(plain, mark=mark, is_suffixed=is_suffixed),
    )


def image_name(owner: str, repo: str, *, is_suffixed: bool = False, mark: str | None = None) -> str:
    wanted = f"{owner}-{repo}".lower()
    if _IMAGE.fullmatch(wanted) and len(wanted) <= MAX_IMAGE and not is_suffixed:
        return wanted
    kept = re.sub(r"[^a-z0-9]+", "-", wanted).strip("-") if not _IMAGE.fullmatch(wanted) else wanted
    return _marked(kept or "app", mark or _mark(owner, repo), MAX_IMAGE, is_marked=True)


def app_name(mirror: str, *, mark: str | None = None, is_suffixed: bool = False) -> str:
    """Of Deployment, Service and label: the mirror's name in lower case, where Kubernetes takes it."""
    wanted = mirror.lower()
    if _APP.fullmatch(wanted) and len(wanted) <= MAX_APP and not is_suffixed:
        return wanted
    kept = re.sub(r"[^a-z0-9]+", "-", wanted).strip("-")
    kept = kept if kept[:1].isalpha() else f"app-{kept}".rstrip("-")
    return _marked(kept, mark or _hash(wanted), MAX_APP, is_marked=True)


def check_name(name: str, what: str, limit: int) -> str:
    """Errors: Invalid, before the provider is asked."""
    if not _NAME.fullmatch(name) or len(name) > limit:
        raise Invalid(
            f"{name[:120]!r} is not a name for a {what}.",
            hint=f"Use 1 to {limit} letters, digits, hyphens and underscores.",
        )
    return name


def check_image(name: str) -> str:
    """Errors: Invalid."""
    if len(name) > MAX_IMAGE or not _IMAGE.fullmatch(name):
        raise Invalid(
            f"{name[:120]!r} is not a name for an image in Naver Cloud's registry.",
            hint="Use lower-case letters and digits, with single dots, underscores or hyphens between them.",
        )
    return name


def check_tag(tag: str) -> str:
    """Errors: Invalid. `#` is allowed by the provider, which puts something else in its place: not by us."""
    if not _TAG.fullmatch(tag):
        raise Invalid(f"{tag[:100]!r} is not a tag for an image.", hint="Use the commit's full SHA.")
    return tag


def _marked(name: str, mark: str, limit: int, *, is_marked: bool) -> str:
    if len(name) <= limit and not is_marked:
        return name
    return f"{name[: limit - len(mark) - 1].rstrip('-_.')}-{mark}"


def _mark(owner: str, repo: str) -> str:
    return _hash(f"{owner}/{repo}".lower())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]

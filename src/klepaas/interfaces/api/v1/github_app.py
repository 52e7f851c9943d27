"""How this klepaas stands with GitHub, and the manifest flow that makes its App. No route gives its secrets out."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import ConfigDict

from klepaas.domain.github_app import GitHubApp
from klepaas.interfaces.api.door import CurrentActor, Guarded, TheContext
from klepaas.interfaces.api.v1.answers.answer import Answer, example_of
from klepaas.interfaces.api.v1.bodies import Body, Text
from klepaas.interfaces.api.v1.parameters import PREFIX, refusals
from klepaas.operations import github_app

router = APIRouter(prefix=f"{PREFIX}/github", tags=["github"], route_class=Guarded)


class AppCode(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "a180b1a3d263c81bc6441d7b990bae27d4c10679"}]})
    code: Text
    """What GitHub gave the browser in return for the manifest."""


class AppAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "app_id": "910001",
                    "slug": "klepaas-example",
                    "html_url": "https://github.com/apps/klepaas-example",
                }
            ]
        }
    )
    app_id: str
    slug: str
    html_url: str

    @classmethod
    def of(cls, app: GitHubApp) -> "AppAnswer":
        return cls(app_id=app.app_id, slug=app.slug, html_url=app.html_url)


class InstallationAnswer(Answer):
    id: str
    account: str
    repositories: str
    suspended: bool


class GitHubAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "github_url": "https://github.com",
                    "app": example_of(AppAnswer),
                    "app_from": "manifest",
                    "webhook_url": "https://klepaas.example.org/api/v1/cicd/webhook",
                    "webhook_secrets": ["app"],
                    "installations": [
                        {"id": "47000001", "account": "octo-org", "repositories": "selected", "suspended": False}
                    ],
                    "problem": "",
                }
            ]
        }
    )
    github_url: str
    app: AppAnswer | None
    app_from: Literal["settings", "manifest"] | None
    webhook_url: str | None
    """Where GitHub sends webhooks; null while the operator has not set KLEPAAS_PUBLIC_URL."""
    webhook_secrets: list[Literal["app", "legacy"]]
    """Which are known, in the order they are tried. Without one no webhook is taken."""
    installations: list[InstallationAnswer]
    """For the operator only."""
    problem: str
    """What GitHub says when it cannot be asked about the App."""

    @classmethod
    def of(cls, found: github_app.GitHubStatus) -> "GitHubAnswer":
        known: list[Literal["app", "legacy"]] = ["app"] if found.app_secret else []
        return cls(
            github_url=found.github_url,
            app=None if found.app is None else AppAnswer.of(found.app),
            app_from=None if found.app is None else "settings" if found.is_from_settings else "manifest",
            webhook_url=found.webhook_url,
            webhook_secrets=[*known, "legacy"] if found.legacy_secret else known,
            installations=[
                InstallationAnswer(
                    id=each.id, account=each.account, repositories=each.repositories, suspended=each.suspended
                )
                for each in found.installations
            ],
            problem=found.problem,
        )


class ManifestAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "post_to": "https://github.com/organizations/octo-org/settings/apps/new",
                    "manifest": {
                        "name": "klepaas klepaas.example.org",
                        "url": "https://klepaas.example.org",
                        "redirect_url": "http://127.0.0.1:41234/made",
                        "public": False,
                        "default_permissions": {"contents": "read", "metadata": "read", "pull_requests": "write"},
                        "hook_attributes": {
                            "url": "https://klepaas.example.org/api/v1/cicd/webhook",
                            "active": True,
                        },
                        "default_events": ["push", "release", "pull_request"],
                    },
                }
            ]
        }
    )
    post_to: str
    """Where a browser posts the form field `manifest`; `?state=` may be added to it."""
    manifest: dict[str, Any]


RedirectUrl = Annotated[str, Query(max_length=500, examples=["http://127.0.0.1:41234/made"])]
AppName = Annotated[str | None, Query(max_length=80, description="Unset: made from klepaas's public address.")]
Organization = Annotated[str | None, Query(max_length=80, description="Unset: the App belongs to whoever makes it.")]


@router.get("", responses=refusals(403))
async def status(context: TheContext, actor: CurrentActor) -> GitHubAnswer:
    """How this klepaas stands with GitHub."""
    return GitHubAnswer.of(await github_app.status(context, actor))


@router.get("/manifest", responses=refusals(403, 409))
async def manifest(
    context: TheContext,
    actor: CurrentActor,
    redirect_url: RedirectUrl,
    name: AppName = None,
    organization: Organization = None,
) -> ManifestAnswer:
    """The App to be made at GitHub."""
    made = await github_app.manifest(context, actor, redirect_url=redirect_url, name=name, organization=organization)
    return ManifestAnswer(post_to=made.post_to, manifest=dict(made.manifest))


@router.post("/app", status_code=201, responses=refusals(403, 409, 413))
async def adopt(body: AppCode, context: TheContext, actor: CurrentActor) -> AppAnswer:
    """Take over the App that GitHub made of the manifest. Its key is sealed and never given back."""
    return AppAnswer.of(await github_app.adopt(context, actor, code=body.code))


@router.delete("/app", status_code=204, responses=refusals(403, 404, 409))
async def forget(context: TheContext, actor: CurrentActor) -> None:
    """Forget the App. At GitHub it stays until it is deleted there."""
    await github_app.forget(context, actor)

"""Where Naver Cloud's services answer."""

from enum import StrEnum

from klepaas.settings import NcpSettings


class Service(StrEnum):
    """The value is its name in sentences."""

    SOURCE_COMMIT = "SourceCommit"
    SOURCE_BUILD = "SourceBuild"
    SOURCE_DEPLOY = "SourceDeploy"
    SOURCE_PIPELINE = "SourcePipeline"
    NKS = "Kubernetes Service"
    REGISTRY = "Container Registry"


_CLASSIC = {
    Service.SOURCE_DEPLOY: "sourcedeploy.apigw.",
    Service.SOURCE_PIPELINE: "sourcepipeline.apigw.",
}


def endpoints_of(settings: NcpSettings) -> dict[Service, str]:
    """Base addresses with their path, without a slash at the end."""
    return {
        Service.SOURCE_COMMIT: f"{settings.sourcecommit_endpoint}/api/v1",
        Service.SOURCE_BUILD: f"{settings.sourcebuild_endpoint}/api/v1",
        Service.SOURCE_DEPLOY: f"{settings.sourcedeploy_endpoint}/api/v1",
        Service.SOURCE_PIPELINE: f"{settings.sourcepipeline_endpoint}/api/v1",
        Service.NKS: f"{settings.nks_endpoint}{_nks_path(settings.region)}",
    }


def warnings_of(settings: NcpSettings) -> list[str]:
    """Sentences about endpoints that cannot lead to a cluster."""
    configured = {
        Service.SOURCE_DEPLOY: settings.sourcedeploy_endpoint,
        Service.SOURCE_PIPELINE: settings.sourcepipeline_endpoint,
    }
    return [
        f"{service} is configured as {configured[service]}, which knows no Kubernetes clusters; "
        f"unset KLEPAAS_NCP_{service.upper()}_ENDPOINT, or give it its VPC address (vpc{prefix}…)."
        for service, prefix in _CLASSIC.items()
        if configured[service].partition("://")[2].startswith(prefix)
    ]


def _nks_path(region: str) -> str:
    """Source: the IAM authenticator and the Terraform provider of Naver Cloud."""
    code = region.upper()
    if code.startswith("F"):
        return "/nks/v2"
    return "/vnks/v2" if code == "KR" or "CS" in code else f"/vnks/{code.lower()}-v2"

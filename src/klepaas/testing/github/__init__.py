"""A stand-in for GitHub: a real HTTP server with its API, its git and its webhooks, also with their failures."""

from klepaas.testing.git.repository import CannotMerge
from klepaas.testing.github.application import Requested
from klepaas.testing.github.apps import App
from klepaas.testing.github.comments import Comment
from klepaas.testing.github.deployments import Deployment, DeploymentStatus
from klepaas.testing.github.faults import Fault, Faults, Kind, WebhookFaults
from klepaas.testing.github.handle import StandInRepository
from klepaas.testing.github.hooks import Delivery
from klepaas.testing.github.server import StandInGitHub
from klepaas.testing.github.statuses import Status

__all__ = [
    "App",
    "CannotMerge",
    "Comment",
    "Delivery",
    "Deployment",
    "DeploymentStatus",
    "Fault",
    "Faults",
    "Kind",
    "Requested",
    "StandInGitHub",
    "StandInRepository",
    "Status",
    "WebhookFaults",
]

"""The lines of the log that operators of the older system search for when a rollback went wrong.

They keep their words to the letter; who needs fields has the events of the deployment."""

from datetime import datetime

import structlog

from klepaas.domain.deployment import Deployment
from klepaas.domain.project import Project
from klepaas.domain.release import Release

log = structlog.get_logger()


def asked_for_earlier(project: Project, steps_back: int) -> None:
    log.info(f"Starting rollback to previous deployment: {project.repository.display}, steps_back={steps_back}")


def found_earlier(project: Project, count: int, release: Release, deployed_at: datetime | None) -> None:
    log.info(f"Found {count} successful deployment(s) for {project.repository.display}")
    log.info(f"Target deployment: commit={release.commit_sha[:7]}, deployed_at={_shown(deployed_at)}")


def found(project: Project, release: Release, deployed_at: datetime | None) -> None:
    log.info(f"Starting rollback for {project.repository.display} to commit {release.commit_sha[:7]}")
    if project.build_project_id is not None or project.deploy_project_id is not None:
        ids = f"build_project_id={project.build_project_id}, deploy_project_id={project.deploy_project_id}"
        log.info(f"Project integration found: {ids}")
    log.info(f"Found deployment history: deployed_at={_shown(deployed_at)}, image={release.image_ref}")


def found_nothing(repository: str) -> None:
    log.error(f"No deployment history found for {repository}")


def completed(deployment: Deployment) -> None:
    log.info("Rollback completed successfully", commit_sha=deployment.commit_sha, history_id=deployment.number)


def _shown(at: datetime | None) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z") if at is not None else "unknown"

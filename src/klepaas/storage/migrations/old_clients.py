"""The views `deployment_histories` and `user_project_integrations`: what scripts of the older systems read.

Their four status words know no middle ground. What has not ended is `running`, also when nobody can say now how
it goes (unknown); what ended without the new release being live is `failed`, and `error_message` says how."""

_SECONDS = {
    "sqlite": "ROUND((julianday({to}) - julianday({since})) * 86400.0, 3)",
    "postgresql": "CAST(ROUND(CAST(EXTRACT(EPOCH FROM ({to} - {since})) AS numeric), 3) AS double precision)",
}

_DEPLOYMENT_HISTORIES = """
CREATE VIEW deployment_histories AS
SELECT
    d.number AS id,
    o.name AS user_id,
    p.github_owner AS github_owner,
    p.github_repo AS github_repo,
    COALESCE(d.commit_sha, '') AS github_commit_sha,
    d.commit_message AS github_commit_message,
    d.environment AS environment,
    CASE d.status
        WHEN 'queued' THEN 'pending'
        WHEN 'running' THEN 'running'
        WHEN 'unknown' THEN 'running'
        WHEN 'succeeded' THEN 'success'
        ELSE 'failed'
    END AS status,
    CASE
        WHEN d.status = 'succeeded' THEN 'success'
        WHEN d.started_at IS NULL OR d.release_id IS NULL THEN NULL
        WHEN d.finished_at IS NULL THEN 'running'
        ELSE 'failed'
    END AS sourcedeploy_status,
    COALESCE(d.image_ref, r.image_ref) AS image_name,
    d.rollback_of IS NOT NULL AS is_rollback,
    undone.number AS rollback_from_id,
    d.started_at AS started_at,
    d.finished_at AS completed_at,
    CASE WHEN d.status = 'succeeded' THEN COALESCE(d.live_at, d.finished_at) END AS deployed_at,
    {seconds} AS total_duration,
    CASE d.status
        WHEN 'failed' THEN COALESCE(d.error_message, 'It failed.')
        WHEN 'cancelled' THEN 'Cancelled by ' || COALESCE(d.cancelled_by, 'klepaas') || '.'
        WHEN 'superseded' THEN 'Superseded by a newer deployment of the same app.'
        WHEN 'rolled_back_automatically' THEN 'Rolled back automatically: ' || COALESCE(d.error_message, 'it failed.')
        WHEN 'unknown' THEN 'The outcome is not known yet: ' || COALESCE(d.error_message, 'nobody can be asked.')
    END AS error_message,
    d.created_at AS created_at
FROM deployments d
JOIN projects p ON p.id = d.project_id
JOIN owners o ON o.id = p.owner_id
LEFT JOIN releases r ON r.id = d.release_id
LEFT JOIN deployments undone ON undone.id = d.rollback_of
"""

_IMPORTED = """
UNION ALL
SELECT
    -i.number,
    o.name,
    i.github_owner,
    i.github_repo,
    i.commit_sha,
    i.commit_message,
    i.environment,
    CASE i.outcome WHEN 'succeeded' THEN 'success' ELSE i.outcome END,
    CASE i.outcome WHEN 'succeeded' THEN 'success' WHEN 'failed' THEN 'failed' END,
    i.image_ref,
    i.is_rollback,
    -undone.number,
    i.started_at,
    i.completed_at,
    i.deployed_at,
    {seconds},
    CASE i.outcome
        WHEN 'failed' THEN COALESCE(i.error_message, i.reason)
        WHEN 'unknown' THEN 'The outcome is not known: ' || i.reason
    END,
    i.created_at
FROM imported_deployments i
JOIN owners o ON o.id = i.owner_id
LEFT JOIN imported_deployments undone ON undone.id = i.rollback_from
WHERE i.twin_of IS NULL
"""

_USER_PROJECT_INTEGRATIONS = """
CREATE VIEW user_project_integrations AS
SELECT
    p.number AS id,
    o.name AS user_id,
    p.github_owner AS github_owner,
    p.github_repo AS github_repo,
    p.github_installation_id AS github_installation_id,
    p.sc_project_id AS sc_project_id,
    p.sc_repo_name AS sc_repo_name,
    p.build_project_id AS build_project_id,
    p.deploy_project_id AS deploy_project_id,
    p.pipeline_id AS pipeline_id,
    p.branch AS branch,
    p.auto_deploy AS auto_deploy_enabled,
    p.created_at AS created_at,
    p.updated_at AS updated_at
FROM projects p
JOIN owners o ON o.id = p.owner_id
WHERE p.retired_at IS NULL
"""


def views(dialect: str) -> list[str]:
    """The statements that make both views on a database without them, and without imported rows."""
    return [_own_histories(dialect), _USER_PROJECT_INTEGRATIONS]


def with_imported_rows(dialect: str) -> list[str]:
    """The statements that put `deployment_histories` in its place again, now with imported rows."""
    seconds = _SECONDS[dialect].format(to="i.completed_at", since="i.started_at")
    return ["DROP VIEW deployment_histories", _own_histories(dialect) + _IMPORTED.format(seconds=seconds)]


def _own_histories(dialect: str) -> str:
    return _DEPLOYMENT_HISTORIES.format(seconds=_SECONDS[dialect].format(to="d.finished_at", since="d.started_at"))

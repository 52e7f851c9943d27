"""Naver Cloud: the runs there, written down before they are started."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

Time = sa.DateTime(timezone=True)
Json = sa.JSON().with_variant(JSONB(), "postgresql")
Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    op.create_table(
        "provider_runs",
        sa.Column("number", Number, autoincrement=True, nullable=False),
        sa.Column("app_key", sa.String(100), nullable=False),
        sa.Column("deployment_id", sa.String(40)),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("provider_project_id", sa.String(80), nullable=False),
        sa.Column("commit_sha", sa.String(40)),
        sa.Column("release_id", sa.String(40)),
        sa.Column("known", Json, nullable=False),
        sa.Column("run_id", sa.String(80)),
        sa.Column("word", sa.String(100)),
        sa.Column("by", sa.String(120), nullable=False),
        sa.Column("noted_at", Time, nullable=False),
        sa.Column("ended_at", Time),
        sa.PrimaryKeyConstraint("number", name="pk_provider_runs"),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployments.id"], name="fk_provider_runs_deployment_id_deployments"
        ),
        sa.UniqueConstraint("deployment_id", "kind", name="uq_provider_runs_deployment_id_kind"),
        sqlite_autoincrement=True,
    )
    _index("one_row_per_run", "kind", "provider_project_id", "run_id", where="run_id IS NOT NULL")
    is_open = "ended_at IS NULL AND deployment_id IS NOT NULL"
    _index("one_open_run_per_project", "kind", "provider_project_id", where=is_open)
    op.create_index("provider_runs_of_an_app", "provider_runs", ["app_key", "kind", "number"], unique=False)


def _index(name: str, *columns: str, where: str) -> None:
    op.create_index(name, "provider_runs", list(columns), unique=True, **_where(where))

"""Histories of older systems, kept beside our own and shown with it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from klepaas.storage.migrations import old_clients

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

Time = sa.DateTime(timezone=True)
Json = sa.JSON().with_variant(JSONB(), "postgresql")
Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "imported_deployments",
        sa.Column("number", Number, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("owner_id", sa.String(40), nullable=False),
        sa.Column("source", sa.String(255), nullable=False),
        sa.Column("old_id", sa.String(80), nullable=False),
        sa.Column("repository", sa.String(511), nullable=False),
        sa.Column("github_owner", sa.String(255), nullable=False),
        sa.Column("github_repo", sa.String(255), nullable=False),
        sa.Column("commit_sha", sa.String(255), nullable=False),
        sa.Column("commit_message", sa.Text(), nullable=False),
        sa.Column("environment", sa.String(255)),
        sa.Column("outcome", sa.String(20), nullable=False),
        sa.Column("settled_by", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("image_ref", sa.String(500)),
        sa.Column("image_digest", sa.String(80)),
        sa.Column("is_rollback", sa.Boolean(), nullable=False),
        sa.Column("rollback_from", sa.String(40)),
        sa.Column("twin_of", sa.String(40)),
        sa.Column("created_at", Time),
        sa.Column("started_at", Time),
        sa.Column("deployed_at", Time),
        sa.Column("completed_at", Time),
        sa.Column("error_message", sa.Text()),
        sa.Column("findings", Json, nullable=False),
        sa.Column("evidence", Json, nullable=False),
        sa.Column("originals", Json, nullable=False),
        sa.Column("imported_at", Time, nullable=False),
        sa.Column("asked_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_imported_deployments"),
        sa.UniqueConstraint("id", name="uq_imported_deployments_id"),
        sa.UniqueConstraint("key", name="uq_imported_deployments_key"),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name="fk_imported_deployments_owner_id_owners"),
        sqlite_autoincrement=True,
    )
    of_a_repository = ["owner_id", "repository", "created_at"]
    op.create_index("imported_of_a_repository", "imported_deployments", of_a_repository, unique=False)
    for statement in old_clients.with_imported_rows(op.get_bind().dialect.name):
        op.execute(statement)

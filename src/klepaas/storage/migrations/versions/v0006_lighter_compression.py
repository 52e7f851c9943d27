"""Bodies of deliveries come by the thousand, and PostgreSQL's own way of compressing is a good part of storing one.

What is there stays as it is."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Since PostgreSQL 14, where it was built with LZ4.
CAN_LZ4 = "SELECT count(*) FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)"


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql" and connection.scalar(sa.text(CAN_LZ4)):
        op.execute("ALTER TABLE deliveries ALTER COLUMN body SET COMPRESSION lz4")

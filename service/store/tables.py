"""The store's tables."""

import sqlalchemy as sa

SCHEMA = 2  # 2: the table of impressions
ITEMS_COUNTER = ""  # in the table of counters, where no user is called so

metadata = sa.MetaData()
_number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
schema = sa.Table("recsys_schema", metadata, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))
events = sa.Table(
    "recsys_events",
    metadata,
    sa.Column("sequence", _number, primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.Text, nullable=False, unique=True),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("item_id", sa.Text, nullable=False),
    sa.Column("item_kind", sa.Text, nullable=False),
    sa.Column("weight", sa.Double),
    sa.Column("timestamp", sa.BigInteger),
    sa.Column("event_type", sa.Text),
    sa.Column("request_id", sa.Text),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sa.Index("recsys_events_of_user", "user_id", "sequence"),
    sqlite_autoincrement=True,  # a number is never used again, also after an erasure
)
tombstones = sa.Table(
    "recsys_tombstones",
    metadata,
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("erased_at", sa.BigInteger, nullable=False),
)
items = sa.Table(
    "recsys_items",
    metadata,
    sa.Column("item_id", sa.Text, primary_key=True),
    sa.Column("title", sa.Text),
    sa.Column("categories", sa.Text),
    sa.Column("available", sa.Boolean, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
)
counters = sa.Table(
    "recsys_counters",
    metadata,
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("counter", sa.BigInteger, nullable=False),
)
impressions = sa.Table(
    "recsys_impressions",
    metadata,
    sa.Column("sequence", _number, primary_key=True, autoincrement=True),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("user_id", sa.Text),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("arm", sa.Text),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("items", sa.Text, nullable=False),
    sa.Column("shown_at", sa.BigInteger, nullable=False),
    sa.Index("recsys_impressions_of_user", "user_id"),
    sa.Index("recsys_impressions_by_time", "shown_at"),
)
CONTENT = ("user_id", "item_id", "weight", "timestamp", "event_type", "request_id")
"""What makes two events of one id the same."""

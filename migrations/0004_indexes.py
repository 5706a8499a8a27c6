"""Indexes: sessions of one collection within their organisation, and no second webhook of the environment."""

UP = (
    "DROP INDEX upload_session_collection",
    # The collection first: by its organisation alone a session is found by upload_session_organization, or in the order
    # of the rows, where an index that begins with it would have to be sorted.
    "CREATE INDEX upload_session_collection ON upload_session (collection_id, organization_id, seq)",
    # Workers that began at once may have made several.
    "DELETE FROM webhook WHERE url IS NULL AND seq > (SELECT MIN(seq) FROM webhook WHERE url IS NULL)",
    "CREATE UNIQUE INDEX webhook_environment ON webhook (organization_id) WHERE url IS NULL",
)
DOWN = (
    "DROP INDEX webhook_environment",
    "DROP INDEX upload_session_collection",
    "CREATE INDEX upload_session_collection ON upload_session (collection_id, seq)",
)


def up(migrator, db):
    for statement in UP:
        db.execute_sql(statement)


def down(migrator, db):
    for statement in DOWN:
        db.execute_sql(statement)

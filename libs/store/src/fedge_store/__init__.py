"""The edge's store of objects in SQLite, with its inbox and outbox."""

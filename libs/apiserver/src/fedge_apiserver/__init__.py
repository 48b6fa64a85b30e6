"""A Kubernetes API server in one process, kept in SQLite."""

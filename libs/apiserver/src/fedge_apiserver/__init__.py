"""A Kubernetes API server in one process.

An ASGI application over a storage port: with SQLite it is the embedded control plane of a cloud
that has no cluster. Objects are kept as the JSON that goes over the wire; kinds are rows of a
table; the order of all writes is one number, as in etcd.
"""

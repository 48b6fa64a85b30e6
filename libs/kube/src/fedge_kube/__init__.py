"""The cloud's client of a Kubernetes API."""

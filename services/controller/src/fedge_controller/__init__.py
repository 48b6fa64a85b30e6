"""Kubernetes objects down to nodes, their status up."""

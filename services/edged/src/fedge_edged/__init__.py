"""Keeps the node's containers as the pods in meta say."""

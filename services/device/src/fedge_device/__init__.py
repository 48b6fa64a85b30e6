"""Devices and their models down to nodes, their status up."""

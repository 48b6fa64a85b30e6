"""Desired and reported state of each device at the edge."""

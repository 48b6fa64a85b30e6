"""The cloud's door to its nodes."""

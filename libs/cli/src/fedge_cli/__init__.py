"""The fedge command."""

"""The kinds that fedge brings along."""

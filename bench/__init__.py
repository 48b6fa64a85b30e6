"""Benchmarks. Each measures a floor in the same run and prints one flat JSON object at its end."""

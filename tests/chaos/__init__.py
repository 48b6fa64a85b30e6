"""Systems that are broken at random."""

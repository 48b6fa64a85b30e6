"""``python -m fedge_cli``."""

from fedge_cli.main import main

main()

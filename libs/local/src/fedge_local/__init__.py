"""The whole system as processes of one machine, for trying, testing and measuring."""

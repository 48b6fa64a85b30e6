"""What makes a plugin a process: discovery, settings, logging, supervision."""

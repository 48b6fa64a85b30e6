"""Messages between fedge services: addresses, envelopes, topology, publishing, acknowledging."""

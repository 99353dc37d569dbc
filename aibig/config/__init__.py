"""What a config names and sets: registries, settings read from signatures, a run as written. Imports no torch."""

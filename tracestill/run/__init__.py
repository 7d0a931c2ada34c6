"""A run: the line of stages, their processes, their fingerprints, and the folder."""

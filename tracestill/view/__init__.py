"""A local browser of runs: `tracestill view RUN`."""

"""The stages: `settings` is what the result of one depends on, `make` makes it."""

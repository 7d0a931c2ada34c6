"""The `tracestill` command: a file for each subcommand, and what the terminal shows."""

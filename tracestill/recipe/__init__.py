"""The recipe: its schema, how it is read, and what may leave the machine by it."""

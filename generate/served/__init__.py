"""The client of `engine: openai`: how requests reach endpoints and what comes back is read."""

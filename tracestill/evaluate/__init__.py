"""A model in, pass@1 with its interval out."""

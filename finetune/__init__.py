"""Kept traces in, a student out."""

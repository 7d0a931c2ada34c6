"""Traces in, the same traces out with a verdict and, where dropped, the reason."""

"""A tiny teacher and a tiny student that fit in the repository, and what trains them."""

"""Problems and teachers in, traces out."""

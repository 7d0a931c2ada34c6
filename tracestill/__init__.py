"""tracestill: distil the reasoning of large teachers into small dense models."""

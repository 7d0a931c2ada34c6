"""What runs inside the cage. It imports nothing but the standard library and itself."""

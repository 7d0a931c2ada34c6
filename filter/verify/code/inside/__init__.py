"""What runs inside the sandbox. It imports nothing but the standard library and itself."""

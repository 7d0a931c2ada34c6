"""What a run will take and teach, before it does."""

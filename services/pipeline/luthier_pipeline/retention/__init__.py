"""What may go from the store (gc) and what must go (takedown)."""

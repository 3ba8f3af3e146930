"""Plumbing of every Luthier service."""

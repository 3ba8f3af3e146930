"""Enrichment: what the world says about a song, each word with its source and licence."""

"""Curation: clips with their facts, prompts, verdicts and history; data sets leave it as frozen manifests."""

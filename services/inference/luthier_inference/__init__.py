"""Prompts become audio: serves registered model versions, one denoising step at a time."""

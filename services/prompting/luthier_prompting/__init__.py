"""Prompting: facts of a clip become captions, and captions are held against the facts."""

"""The providers: a new one is a file here, a line in `build` of registry.py and a test."""

"""The providers, one file each; registry.py lists them."""

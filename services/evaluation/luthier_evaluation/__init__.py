"""Measures model versions on frozen suites, compares them, and promotes them."""

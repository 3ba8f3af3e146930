"""The report: one HTML file without references to anything outside it."""

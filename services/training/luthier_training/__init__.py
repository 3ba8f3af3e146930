"""Training: frozen data sets become model versions."""

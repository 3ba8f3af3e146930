"""Clips and what people think of them, to other tools of labelling and back: Label Studio, Argilla, CSV."""

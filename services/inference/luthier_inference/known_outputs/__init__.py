"""The log of outputs: each is kept as a fingerprint of its sound, by which an excerpt of it is known again."""

"""The commands of `luthier`, one file for each stage of the way."""

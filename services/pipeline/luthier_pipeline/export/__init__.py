"""Data sets as folders: AudioFolder, Parquet or WebDataset, each with its card and its Croissant description."""

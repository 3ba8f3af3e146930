"""The page: people listen, correct, decide, undo and export, with the keyboard or without."""

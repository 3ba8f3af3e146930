"""The report on a corpus before anything is rendered: figures, and one HTML file without references outside it."""

"""lawpack: what is behind a model, as those ask for it who have to answer for it."""

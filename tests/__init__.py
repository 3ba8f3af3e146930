"""A package, or a dependency that installs a `tests` of its own would shadow it."""

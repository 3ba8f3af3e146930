"""luthier sweep: a model's scores against the settings with which it generates."""

"""Alembic migrations of the curation database, run at start-up when LUTHIER_MIGRATE says so."""

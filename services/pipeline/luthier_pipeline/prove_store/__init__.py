"""prove-store: whether an object store keeps what Luthier rests on, asked by many writers at several endpoints."""

"""Every Luthier service on one machine, kept alive by supervisord."""

"""`luthier demo-page`: evaluations as a folder of static files to listen to."""

"""`python -m luthier_pipeline` is `luthier`."""

from luthier_pipeline.cli import main

if __name__ == "__main__":
    main()

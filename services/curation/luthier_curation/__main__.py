"""`python -m luthier_curation` starts the service and its page."""

from luthier_curation.serving import main

if __name__ == "__main__":
    main()

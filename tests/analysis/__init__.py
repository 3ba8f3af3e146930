"""Tests of analysis, on one thread each, as in its workers: threads of BLAS wait for each other on a busy machine."""

import os

for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(library, "1")

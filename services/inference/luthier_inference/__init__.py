"""Prompts become audio: serves registered model versions, one denoising step at a time."""

import logging
import os

# Before torch is imported: threads that wait for each other by spinning cost 30 times a step's time where other
# processes want the same cores, and gain nothing measurable where they do not.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TQDM_DISABLE", "1")  # libraries' progress bars do not belong among JSON log lines
# torch says at import that it cannot count the operations of triton's kernels; triton is not installed and not used
logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)

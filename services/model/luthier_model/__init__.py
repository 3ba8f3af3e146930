"""The torch code that training and inference share: what a model is, how it is loaded and how it generates.

Two things happen before stable-audio-tools is imported:
* `HF_HUB_OFFLINE` is set, and wandb is disabled unless its key is there (training then reports to it): this library
  reads local files only, and what is absent is an error, never a download.
* Where k-diffusion is not installed, an empty module takes its name. The library's model classes import its samplers,
  and these import k-diffusion with dozens of packages behind it; Luthier samples by `sampling.py` and calls none.
"""

import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if not (os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_API_KEY_FILE")):
    os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

if find_spec("k_diffusion") is None:
    sys.modules["k_diffusion"] = module_from_spec(ModuleSpec("k_diffusion", None))

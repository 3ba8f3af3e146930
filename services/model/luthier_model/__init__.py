"""The torch code that training and inference share. No gRPC, no storage, no network.

`HF_HUB_OFFLINE` is set before anything imports huggingface_hub, and wandb (which stable-audio-tools imports)
is disabled: this library reads local files only, and what is absent is an error, never a download.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

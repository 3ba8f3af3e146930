"""The device that denoises: named by the operator, never a silent fallback."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from luthier_kit.settings import SettingsError


def chosen(device: str, precision: str) -> torch.device:
    """The device. SettingsError when there is no CUDA device, or bfloat16 is asked of the CPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("DEVICE is cuda, but no CUDA device is found here; DEVICE=cpu is slower and a choice")
    if device == "cpu" and precision == "bfloat16":
        raise SettingsError("LUTHIER_PRECISION=bfloat16 needs DEVICE=cuda")
    return torch.device(device)


@contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """bfloat16 for matrix products and convolutions where it is asked for; weights and latents stay float32."""
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        yield


class Pace:
    """Keeps the host at most one step ahead of the device, so that progress is true and a cancel is quick.

    The device always has a step queued, so it never waits for the host.
    """

    def __init__(self, device: torch.device):
        self._cuda = device.type == "cuda"
        self._before: torch.cuda.Event | None = None

    def step(self) -> None:
        """Call after each step is queued: waits until the one before it is done."""
        if not self._cuda:
            return
        done = torch.cuda.Event()
        done.record()
        if self._before:
            self._before.synchronize()
        self._before = done

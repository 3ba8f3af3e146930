"""The device that denoises: named by the operator, never a silent fallback."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from luthier_kit.errors import Unavailable
from luthier_kit.settings import SettingsError


def chosen(device: str, precision: str) -> torch.device:
    """The device. SettingsError when there is no CUDA device, or bfloat16 is asked of the CPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("DEVICE is cuda, but no CUDA device is found here; DEVICE=cpu is slower and a choice")
    if device == "cpu" and precision == "bfloat16":
        raise SettingsError("LUTHIER_PRECISION=bfloat16 needs DEVICE=cuda")
    torch.backends.cudnn.allow_tf32 = False  # the autoencoder's convolutions are heard: 10 bits are too few
    return torch.device(device)


@contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """bfloat16 for the transformer's products where it is asked for; weights and latents stay float32."""
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        yield


@contextmanager
def memory_bounded() -> Iterator[None]:
    """A device that has no memory left is busy, not broken: Unavailable, so that another server is asked."""
    try:
        yield
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        text = "the device has not enough free memory for this now"
        raise Unavailable(text, reason="DEVICE_OUT_OF_MEMORY", retry_after_s=10.0) from None


def keep_times_exact(network: Any) -> None:
    """Takes the embedding of the noise level out of `arithmetic`.

    Near noise alone the levels differ by less than bfloat16's step below 1 (0.004): sigma 500 would be taken for
    infinity or for 160.
    """
    features = network.model.model.timestep_features
    plain = features.forward

    def exact(t: torch.Tensor) -> torch.Tensor:
        with torch.autocast(t.device.type, enabled=False):
            return plain(t.float())

    features.forward = exact


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
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()
        if self._before:
            self._before.synchronize()
        self._before = done

"""The device's memory: what models and requests take of it is known before anything is loaded.

Models lie in it, each request that is at work holds its latents and what it is told, and one of them is computed at a
time: a pass of the network, a piece of audio, or the audio that it starts from. What could never fit is refused with
both figures; what does not fit now waits, or has an unused model dropped.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from luthier_inference.served_models import ServedVersion
from luthier_inference.work import rows_of
from luthier_kit.rpc import FailedPrecondition
from luthier_model import memory
from luthier_model.generation import GenerationParameters

MIB: Final = 1 << 20


@dataclass(frozen=True)
class Need:
    """Bytes. `held`: by a request from its first pass to its last; `alone`: what computing it takes beside that at most
    at a time, sharing no pass; `row`: what each row of the network takes in a pass.
    """

    held: int = 0
    alone: int = 0
    row: int = 0


NOTHING: Final = Need()


class MemoryTooSmall(FailedPrecondition):
    """A request that this server has not the memory for. Never recorded: another server may have."""

    permanent = False


class Estimates:
    """What models and requests take on a device ("cpu" or "cuda"). `text`: folder of the text encoder of versions that
    bring none; `recorded`: requests of the largest pass that is recorded for each model, 0 = none is.
    """

    def __init__(self, device: str, precision: str, text: Path | None, recorded: int = 0) -> None:
        self._device, self._precision, self._recorded = device, precision, recorded
        self._own_text = sum(path.stat().st_size for path in text.glob("*.safetensors")) if text else 0

    def model(self, served: ServedVersion) -> int:
        """Bytes of a model."""
        text = sum(ref.size_bytes for name, ref in served.version.text_encoder if name.endswith(".safetensors"))
        found = self._footprint(served)
        recordings = self._recorded * (found.held + 2 * found.row)  # what a pass reads and writes, guided
        return found.weights + (text or self._own_text) + recordings

    def adapters(self, served: ServedVersion) -> int:
        """Bytes of its adapters."""
        return sum(adapter.artifact.size_bytes for adapter in served.adapters)

    def request(self, served: ServedVersion, parameters: GenerationParameters, *, init_audio: bool) -> Need:
        """What a request takes; the mix of its adapters is its own."""
        found = self._footprint(served)
        audio = found.init_audio if init_audio else 0
        return Need(
            found.held + self.adapters(served), max(found.row * rows_of(parameters), found.piece, audio), found.row
        )

    def _footprint(self, served: ServedVersion) -> memory.Footprint:
        return memory.footprint(served.configuration, self._device, served.precision or self._precision)


class Memory:
    """Who has how much of `bound` bytes."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self._models: dict[str, int] = {}
        self._at_work: Sequence[Need] = ()
        self._lock = threading.Lock()

    @classmethod
    def of_device(cls, device: str, limit_mib: int) -> "Memory":
        """All that is free now, less what kernels and allocators take, or `limit_mib` where that is not 0."""
        reserve = memory.CUDA_RESERVE if device == "cuda" else 0
        free = limit_mib * MIB or memory.free_bytes(device) - reserve
        return cls(round(free / (1 + memory.MARGIN)))

    @property
    def taken(self) -> int:
        """By models and adapters."""
        with self._lock:
            return sum(self._models.values())

    def check(self, served: ServedVersion, model: int, need: Need) -> None:
        """MemoryTooSmall when a request would not fit were it all that there is."""
        if (needed := model + need.held + need.alone) > self.bound:
            beside = (needed - model) / MIB
            text = f"model {served.version.label} takes {model / MIB:.0f} MiB and this request {beside:.0f} MiB"
            text = f"{text}; this server has {self.bound / MIB:.0f} MiB for both (LUTHIER_MEMORY_MIB)"
            raise MemoryTooSmall(text, reason="MEMORY_TOO_SMALL")

    def take(self, digest: str, size: int) -> None:
        """A model is loaded."""
        with self._lock:
            self._models[digest] = size

    def give_back(self, digest: str) -> None:
        """A model is dropped."""
        with self._lock:
            self._models.pop(digest, None)

    def at_work(self, needs: Sequence[Need]) -> None:
        """These requests hold memory now."""
        self._at_work = needs

    def lacks(self, model: int = 0, need: Need = NOTHING) -> bool:
        """Whether there is no room for a model and a request beside what is there."""
        needs = [*self._at_work, need]
        return model + max(each.alone for each in needs) > self.left(needs)

    def left(self, needs: Sequence[Need]) -> int:
        """For passes, beside the models and what these requests hold."""
        with self._lock:
            return self.bound - sum(self._models.values()) - sum(need.held for need in needs)

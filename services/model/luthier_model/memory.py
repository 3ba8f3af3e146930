"""Memory of a device: what is free, and what generating takes, counted on tensors without data by the code that will
run. So it holds for every family of models.
"""

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from luthier_model import generation, int8, network
from luthier_model.configuration import Configuration, check
from luthier_model.library import Conditioner
from luthier_model.live_bytes import LiveBytes, without_data

MARGIN: Final = 0.1
"""Share of what is counted that must be free besides: allocators leave gaps, kernels take scratch memory."""
CUDA_RESERVE: Final = 512 << 20
"""Bytes of a GPU for its libraries' own memory."""
CPU_CONVOLUTIONS: Final = 2.6
"""So many times what its tensors are takes the decoder on a CPU: oneDNN copies them to another order (measured: 1.0 to
2.55)."""
GIB: Final = 1 << 30


@dataclass(frozen=True)
class Footprint:
    """What generating with a model takes of its device, bytes.

    `weights`: all but the text encoder's, as they are served; `held`: by a request from its first pass to its last;
    at most at a time beside that `row`: a row of the network in a pass (guidance takes two), `piece`: decoding, and
    `init_audio`: encoding the audio that it starts from.
    """

    weights: int
    held: int
    row: int
    piece: int
    init_audio: int


def footprint(known: Configuration, device: str, precision: str) -> Footprint:
    """Of a configuration, as served on "cpu" or "cuda". Takes about a second, once for each."""
    return _footprint(text_of(known), device, precision)


@functools.lru_cache(maxsize=64)
def _footprint(document: str, device: str, precision: str) -> Footprint:
    known = check(json.loads(document))
    with without_data(), torch.random.fork_rng(devices=[]), torch.inference_mode():
        module = network.skeleton(known, "cpu")
        conditioners = module.conditioner.conditioners
        conditioners[known.text.id] = AnyPrompt(conditioners[known.text.id], known.text.states)
        rounded = precision == "int8"  # of such weights nothing can be counted without data
        generation.for_serving(module, "float32" if rounded else precision)
        model = generation.prepare(module, known, torch.device("cpu"), precision)
        less = 3 * sum(layer.weight.numel() for _, _, layer in int8.layers_of(module)) if rounded else 0
        there = [*module.parameters(), *module.buffers()]
        with LiveBytes(there) as denoising:
            request = generation.Denoising(model, generation.longest(known))
            held = denoising.now
            generation.evaluate([request])
        latents = min(generation.PIECE_LATENTS + 2 * generation.MARGIN_LATENTS, known.window_latents)
        with LiveBytes(there) as decoding:
            module.pretransform.decode(torch.zeros(1, known.latent_channels, latents))
        with LiveBytes(there) as encoding:
            generation.encode(model, torch.zeros(1, known.channels, known.window_samples))
        row = (denoising.peak - held + 1) // 2
        piece, init_audio = (with_copies(each.peak, device) for each in (decoding, encoding))
        return Footprint(bytes_of(*there) - less, held, row, piece, init_audio)


class AnyPrompt(Conditioner):  # type: ignore[misc]
    """Stands for the prompt's conditioner: embeddings of the right size, whatever is said."""

    def __init__(self, original: Conditioner, max_tokens: int) -> None:
        super().__init__(original.dim, original.output_dim)
        self.proj_out, self.max_tokens = original.proj_out, max_tokens

    def forward(self, x: list[str], device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, tokens, width) and (batch, tokens)."""
        tokens = torch.zeros(len(x), self.max_tokens, self.dim, device=device)
        return self.proj_out(tokens), torch.ones(len(x), self.max_tokens, dtype=torch.bool, device=device)


def text_of(known: Configuration) -> str:
    """A configuration as a count is remembered by."""
    return json.dumps(known.document, sort_keys=True)


def with_copies(counted: int, device: str) -> int:
    """What an autoencoder's layers take of which so much was counted."""
    return round(counted * (CPU_CONVOLUTIONS if device == "cpu" else 1.0))


def bytes_of(*tensors: torch.Tensor) -> int:
    """What the values of tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def free_bytes(device: str, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory of the device that a process can still take: of the CPU what the machine has available, or less where a
    control group (version 2, as Kubernetes makes them) has less left; what only caches files counts as free.
    """
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    fields = dict(line.split(":", 1) for line in (proc / "meminfo").read_text().splitlines())
    found = [int(fields["MemAvailable"].split()[0]) << 10]
    return min([*found, *_left_in_groups(proc, cgroups)])


def _left_in_groups(proc: Path, cgroups: Path) -> Iterator[int]:
    """What each control group that this process is in, and that has a limit, has left."""
    try:
        own = next(line for line in (proc / "self/cgroup").read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return
    path = cgroups / own.removeprefix("0::").lstrip("/")
    for group in (path, *path.parents):
        if not group.is_relative_to(cgroups):
            return
        try:
            limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # not a group with limits, or not to be seen from here
            continue
        if limit.isdigit():
            yield max(int(limit) - used + int(stat.get("inactive_file", 0)), 0)

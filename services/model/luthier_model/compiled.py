"""A transformer's layers, made faster for the passes that it was warmed up for: compiled, recorded, or both.

* `compile`: a layer is compiled by `torch.compile`, once for all layers and numbers of rows, so that what lies between
  its products is one kernel (CPU and GPU; it needs a C++ compiler, and on a GPU triton);
* `record`: all layers of a pass are recorded as one CUDA graph and replayed: the host launches one thing where
  there were hundreds (CUDA C++ Programming Guide, "CUDA Graphs"). It needs neither.

What a pass computes stays what it was but for rounding. A pass of another shape, with adapters, or of weights of 8 bits
runs as it would without: nobody waits for a compiler while requests are served.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import torch
from torch import Tensor

FORMS_KEPT: Final = 256  # of compiled code: of layers by their configuration, with and without what they attend to
BEFORE_RECORDING: Final = 3  # passes, in which libraries choose their kernels and take their scratch memory

Rotary = tuple[Tensor, Tensor]
Attended = Sequence[tuple[Tensor, Tensor] | None]
Block = Callable[[Any, Tensor, Rotary, Tensor | None, tuple[Tensor, Tensor] | None], None]
"""A layer over (rows, tokens, width), in place, as `transformer.block` is."""
Run = Callable[[Tensor, Tensor | None, Attended], Tensor]
"""All layers: (rows, tokens, width), modulation and what is attended to -> (rows, tokens, width)."""
Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Makes of a thing to do one that does it again, on the same memory."""


class CompilerMissing(Exception):
    """torch.compile cannot make code here."""


@dataclass(frozen=True)
class Speedups:
    """What layers are made faster by. `backend`: of torch.compile; `record`: of CUDA graphs, None = they are not."""

    compile: bool = False
    record: Record | None = None
    backend: str = "inductor"

    def check(self, device: str) -> None:
        """CompilerMissing where the compiler cannot make code for this device: a small function is compiled."""
        if not self.compile:
            return
        try:
            _compiled(lambda x: x.sin_().add_(1), self.backend)(torch.zeros(8, device=device))
        except Exception as error:  # of the compiler, of triton, of imports that they miss: each has its own
            raise CompilerMissing(f"torch.compile cannot make code for {device} here: {_in_short(error)}") from error


class CompiledLayers:
    """The layers of one transformer. Shapes become known within `warming_up`; one thread at a time runs passes."""

    def __init__(self, layers: Sequence[Any], block: Block, how: Speedups) -> None:
        self._layers, self._block, self._how = layers, block, how
        if how.compile:
            self._block = _compiled(block, how.backend)
        self._runs: dict[tuple[Any, ...], Run] = {}
        self._memory = _Memory()
        self._learns = False

    @contextmanager
    def warming_up(self) -> Iterator[None]:
        """Passes within it are made ready, each shape once; begin with the largest, whose memory the others use."""
        self._learns = True
        try:
            yield
        finally:
            self._learns = False

    @property
    def shapes(self) -> int:
        """How many are known."""
        return len(self._runs)

    def __call__(self, x: Tensor, rotary: Rotary, modulation: Tensor | None, attended: Attended) -> Tensor | None:
        """(rows, tokens, width) after all layers; `x` may be changed. None, and `x` as it was, where the shape of the
        pass is not known.
        """
        first = next((pair for pair in attended if pair), None)
        key = (x.shape, x.dtype, None if first is None else (first[0].shape, first[0].dtype), modulation is None)
        if key not in self._runs:
            if not self._learns:
                return None
            self._runs[key] = self._made(x, rotary, modulation, attended)
        return self._runs[key](x, modulation, attended)

    def _made(self, x: Tensor, rotary: Rotary, modulation: Tensor | None, attended: Attended) -> Run:
        def over_layers(x: Tensor, modulation: Tensor | None, attended: Attended) -> Tensor:
            for layer, keys_values in zip(self._layers, attended, strict=True):
                self._block(layer, x, rotary, modulation, keys_values)
            return x

        if self._how.record is None:
            return over_layers
        return _Recorded(over_layers, self._how.record, self._memory, x, modulation, attended)


class _Memory:
    """What recordings of all shapes read and write: they run one after another. `holds`: the one whose keys and values
    lie in it, and these.
    """

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}
        self.holds: tuple[object, object] = (None, None)

    def of(self, name: str, like: Tensor) -> Tensor:
        """The memory of a pass's tensor, as large as the largest so far, seen as one like it."""
        held = self._tensors.get(name)
        if held is None or held.numel() < like.numel() or held.dtype != like.dtype:
            held = self._tensors[name] = torch.empty_like(like.flatten())
        return held[: like.numel()].view(like.shape)


class _Recorded:
    """Layers that read and write the same memory each time. What is attended to is copied when it is another."""

    def __init__(
        self, run: Run, record: Record, memory: _Memory, x: Tensor, modulation: Tensor | None, attended: Attended
    ) -> None:
        self._memory, self._x = memory, memory.of("x", x)
        self._modulation = None if modulation is None else memory.of("modulation", modulation)
        self._attended = [
            None if pair is None else (memory.of(f"keys {at}", pair[0]), memory.of(f"values {at}", pair[1]))
            for at, pair in enumerate(attended)
        ]
        self._copy(x, modulation, attended)
        self._run = run  # with its rotary angles, which a recording reads where they lie
        self._again = record(lambda: _ignore(run(self._x, self._modulation, self._attended)))

    def __call__(self, x: Tensor, modulation: Tensor | None, attended: Attended) -> Tensor:
        self._copy(x, modulation, attended)
        self._again()
        return self._x

    def _copy(self, x: Tensor, modulation: Tensor | None, attended: Attended) -> None:
        self._x.copy_(x)
        if self._modulation is not None and modulation is not None:
            self._modulation.copy_(modulation)
        mine, told = self._memory.holds
        if mine is self and told is attended:
            return
        self._memory.holds = (self, attended)  # held, so that no other gets its place
        for here, pair in zip(self._attended, attended, strict=True):
            if here and pair:
                here[0].copy_(pair[0])
                here[1].copy_(pair[1])


def record_cuda(run: Callable[[], None]) -> Callable[[], None]:
    """As a CUDA graph. Other threads may use the device meanwhile."""
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(BEFORE_RECORDING):
            run()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)  # a cast that was kept from before would be of memory that is gone
    try:
        with torch.cuda.graph(graph, pool=_pool(), capture_error_mode="thread_local"):
            run()
    finally:
        torch.set_autocast_cache_enabled(cached)
    return graph.replay


_pools: list[Any] = []


def _pool() -> Any:
    """Memory of all recordings, which run one after another."""
    if not _pools:
        _pools.append(torch.cuda.graph_pool_handle())
    return _pools[0]


F = TypeVar("F", bound=Callable[..., Any])


def _compiled(run: F, backend: str) -> F:
    import torch._dynamo  # not before it is asked for: a second, and 40 MiB

    torch._dynamo.config.recompile_limit = FORMS_KEPT
    torch._dynamo.config.accumulated_recompile_limit = 4 * FORMS_KEPT
    return cast(F, torch.compile(run, fullgraph=True, backend=backend))


def _in_short(error: Exception) -> str:
    """The first line of what the compiler says, which goes on with advice to its developers."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _ignore(_: object) -> None:
    """The layers' answer lies in the memory that they were given."""

"""What comes from files: what goes with them, and what is named for a person to decide about.

A model goes with its weights: its checkpoint, an adapter, or what lies beneath one. What was frozen from many songs or
trained on them (data sets, other models, audio that models generated), and what was also made without the files, is
left and named.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from luthier_pipeline.lineage import DATASET, MODEL, RUN, Graph, Ids, LineageIndex

Mask = NDArray[np.bool_]


@dataclass
class Reach:
    """What comes from `roots`, digests.

    `derived` names what goes with them, by digest, the roots first: files that actions made of them alone, and versions
    of models (by digest) whose checkpoint or an adapter goes; their names are `unserved`. `shared` are files made of
    them and also without them. `near` are songs that are near-duplicates of songs among the roots.
    """

    roots: list[str]
    derived: dict[str, str] = field(default_factory=dict)
    shared: list[str] = field(default_factory=list)
    unserved: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    generated: list[str] = field(default_factory=list)
    near: list[str] = field(default_factory=list)

    @cached_property
    def by_kind(self) -> dict[str, int]:
        """How many of the derived are of each kind of blob; model versions and what is not stored are `other`."""
        return dict(Counter(name.partition("/")[0] if "/" in name else "other" for name in self.derived.values()))

    @property
    def clips(self) -> int:
        """How many of the derived are clips."""
        return self.by_kind.get("clips", 0)

    def document(self) -> Mapping[str, object]:
        """Plain JSON."""
        return {
            "sha256": self.roots[0] if len(self.roots) == 1 else "",
            "roots": len(self.roots),
            "kinds": self.by_kind,
            "derived": sorted(self.derived.values()),
            "shared": self.shared,
            "unserved": self.unserved,
            "datasets": self.datasets,
            "models": self.models,
            "runs": self.runs,
            "generated": self.generated,
            "near_duplicates": self.near,
        }


def reach(index: LineageIndex, roots: Ids) -> Reach:
    """Everything that comes from files, by their numbers in the index."""
    walk = _Walk(index.graph())
    graph = walk.graph
    alone, shared = walk.made_of(roots)
    datasets = walk.named(graph.made_by[alone[graph.made]], DATASET)
    weights = np.concatenate([graph.made_by[alone[graph.made]], graph.beneath_of[alone[graph.beneath]]])
    versions = walk.named(weights, MODEL)
    models = index.read_steps(versions.tolist())
    labels = index.numbers([step.outputs[0] for step in models.values()])
    fallen = alone | _mask(graph.files, labels)
    fallen[roots] = False
    derived = np.concatenate([roots, np.flatnonzero(fallen)])
    holders = np.concatenate([datasets, versions])
    held = _mask(graph.steps, holders)
    everything, later = walk.closure(np.concatenate([derived, graph.made[held[graph.made_by]]]))
    names = index.names(np.flatnonzero((held | later) & ~walk.is_action))
    unserved = {step.name for step in models.values()}
    everything[derived] = False
    digests, keys = index.files(derived)
    return Reach(
        digests[: len(roots)],
        derived=dict(zip(digests, keys, strict=True)),
        shared=sorted(index.files(np.flatnonzero(shared))[1]),
        unserved=sorted(unserved),
        datasets=sorted(set(names.get(DATASET, ()))),
        models=sorted(set(names.get(MODEL, ())) - unserved),
        runs=sorted(set(names.get(RUN, ()))),
        generated=sorted(key for key in index.files(np.flatnonzero(everything))[1] if key.startswith("generated/")),
        near=index.near(roots),
    )


class _Walk:
    """Walks a graph forward, by arrays: masks over files [files] and over steps [steps]."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.is_action = ~_mask(graph.steps, np.array(list(graph.kinds), dtype=np.int64))
        # of file f the edges of `used` are used_from[f] to used_from[f + 1]; of step s likewise
        self._used_from = np.searchsorted(graph.used, np.arange(graph.files + 1))
        self._made_from = np.searchsorted(graph.made_by, np.arange(graph.steps + 1))

    def named(self, steps: Ids, kind: str) -> Ids:
        """Those of these steps that are of a kind, each once."""
        found = np.flatnonzero(_mask(self.graph.steps, steps) & ~self.is_action)
        return np.array([step for step in found.tolist() if self.graph.kinds[step] == kind], dtype=np.int64)

    def made_of(self, begin: Ids) -> tuple[Mask, Mask]:
        """What actions made of files alone, themselves too; and what they made of them that others made without."""
        graph = self.graph
        shared = _mask(graph.files)
        while True:
            files, steps = self.closure(begin, actions_only=True, without=shared)
            by_others = files[graph.made] & self.is_action[graph.made_by] & ~steps[graph.made_by]
            more = _mask(graph.files, graph.made[by_others])
            more[begin] = False
            if not (more & ~shared).any():
                return files & ~shared, files & shared
            shared |= more

    def closure(self, begin: Ids, *, actions_only: bool = False, without: Mask | None = None) -> tuple[Mask, Mask]:
        """Files (`begin` too) and steps that follow, through actions or through all steps, not past `without`."""
        graph = self.graph
        files, steps = _mask(graph.files, begin), _mask(graph.steps)
        waiting = np.flatnonzero(files)
        while waiting.size:
            fresh = _mask(graph.steps, _edges_of(graph.used_by, self._used_from, waiting)) & ~steps
            if actions_only:
                fresh &= self.is_action
            steps |= fresh
            made = _mask(graph.files, _edges_of(graph.made, self._made_from, np.flatnonzero(fresh))) & ~files
            files |= made
            waiting = np.flatnonzero(made if without is None else made & ~without)
        return files, steps


def _mask(size: int, *numbers: Ids) -> Mask:
    """True at these numbers, [size]; sooner than sets of numbers of which millions are equal."""
    mask: Mask = np.zeros(size, dtype=np.bool_)
    for some in numbers:
        mask[some] = True
    return mask


def _edges_of(ends: Ids, begins: Ids, nodes: Ids) -> Ids:
    """The other ends of the edges of nodes: of node n they are `ends[begins[n]:begins[n + 1]]`."""
    first, counts = begins[nodes], begins[nodes + 1] - begins[nodes]
    if not counts.sum():
        return ends[:0]
    behind = np.cumsum(counts) - counts  # edges of the nodes before
    found: Ids = ends[np.arange(counts.sum()) + np.repeat(first - behind, counts)]
    return found

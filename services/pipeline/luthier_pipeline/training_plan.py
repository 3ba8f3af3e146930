"""The plan of a training as a YAML file: stages with their data sets, what is kept, what is exported.

    name: songbook-model
    base: tiny-base
    keep_every: 1000
    export: best                       # or last
    stages:
      - {name: test, steps: 200, batch_size: 4, data: [{dataset: small}]}
      - name: main
        steps: 4000
        learning_rate: 5.0e-5
        warmup_steps: 100
        data:
          - {dataset: songbook@1, share: 3, subsets: {polyphonic: 2, monophonic: 1}}
          - {dataset: recordings, share: 1}

Every fault of a file is told at once, with its line; what only the service knows is told with the line, too.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.message import Message

from luthier.common.v1.common_pb2 import ADAPTER_KIND_LORA, ArtifactRef
from luthier.training.v1.training_pb2 import (
    EXPORTED_WEIGHTS_BEST_BY_VALIDATION,
    EXPORTED_WEIGHTS_LAST,
    Adapter,
    CreateTrainingRunRequest,
    ExportedWeights,
    StageData,
    TrainingStage,
)
from luthier_kit.bounded_yaml import Faults, Node, read_yaml
from luthier_kit.rpc import InvalidRequest, NotFound
from luthier_pipeline.adapters import KINDS

MAX_STEPS: Final = 1_000_000
MAX_SEED: Final = 1 << 53  # what a number of YAML holds exactly
MAX_SHARE: Final = 1e6
MAX_ITEMS: Final = 20
"""Stages, data sets of a stage, and subsets of a data set."""
EXPORTS: Final[dict[str, ExportedWeights]] = {
    "last": EXPORTED_WEIGHTS_LAST,
    "best": EXPORTED_WEIGHTS_BEST_BY_VALIDATION,
}
WHOLE: Final = {
    "batch_size": (1, 256),
    "warmup_steps": (0, MAX_STEPS),
    "validate_every": (1, MAX_STEPS),
    "checkpoint_every": (1, MAX_STEPS),
    "accumulate": (1, 256),
    "keep_every": (0, MAX_STEPS),
    "windows_per_clip": (0, 64),
}
NUMBERS: Final = {
    "learning_rate": (1e-8, 0.1),
    "conditioning_dropout": (0.0, 0.9),
    "ema_decay": (0.0, 0.99999),
    "min_excerpt_s": (0.0, 3600.0),
    "window_seconds": (0.0, 3600.0),
    "metadata_share": (0.0, 1.0),
    "timestep_logit_mean": (-10.0, 10.0),
    "timestep_logit_deviation": (0.1, 10.0),
}
FLAGS: Final = ("cut_to_window", "keep_best")
RUN: Final = ("name", "base", "seed", "export", "adapter", *WHOLE, *NUMBERS, *FLAGS, "stages")
STAGE: Final = ("name", "steps", "batch_size", "learning_rate", "warmup_steps", "data")
NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
DATASET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}(@[0-9]{1,9})?")
GROUP: Final = re.compile("attention|feed_forward|all")
MODEL: Final = re.compile(r"\S{1,128}")
FIELDS_OF_THE_FILE: Final = {"model_name": "name", "fine_tune.base_model": "base"}
"""Fields of the request whose names in the file are others; all else is below `fine_tune.`."""


class PlanFault(InvalidRequest):
    """A plan that cannot be trained: every fault with its line."""


@dataclass(frozen=True)
class TrainingPlan:
    """A plan that makes sense in itself. `lines` are those of its fields, by the names of the request."""

    path: Path
    request: CreateTrainingRunRequest
    datasets: list[str]
    lines: dict[str, int]

    def explained(self, error: InvalidRequest) -> PlanFault:
        """What the service refuses, with lines."""
        told = []
        for field, bound in error.violations:
            name = FIELDS_OF_THE_FILE.get(field, field)
            known = [known for known in self.lines if field == known or field.startswith((f"{known}.", f"{known}["))]
            line = self.lines[max(known, key=len)] if known else 1
            told.append(f"line {line}: {name.removeprefix('fine_tune.')}: {bound}")
        return PlanFault(_text(self.path, told or [str(error)]), reason=error.reason)


def read_plan(path: Path, find: Callable[[str], tuple[ArtifactRef, str]], *, needs_base: bool = True) -> TrainingPlan:
    """The plan in a file. `find` gives the manifest of a data set, and which version it is; NotFound is a fault.

    Raises PlanFault with every fault, OSError.
    """
    faults = Faults()
    root = read_yaml(path.read_bytes(), faults)
    reader = _Reader(faults, find)
    request = reader.request(root, needs_base=needs_base) if root else CreateTrainingRunRequest()
    if faults.said:
        more = faults.count - len(faults.said)
        raise PlanFault(_text(path, [*faults.said, *([f"and {more} more"] if more else [])]), reason="PLAN_INVALID")
    return TrainingPlan(path, request, reader.datasets, reader.lines)


def _text(path: Path, told: list[str]) -> str:
    return "\n".join([f"the plan {path}:", *told])


class _Reader:
    """Fills messages from the file, and notes where each field stands."""

    def __init__(self, faults: Faults, find: Callable[[str], tuple[ArtifactRef, str]]) -> None:
        self._faults, self._find = faults, find
        self.lines: dict[str, int] = {}
        self.datasets: list[str] = []

    def request(self, root: Node, *, needs_base: bool) -> CreateTrainingRunRequest:
        needed = ("name", "base", "stages") if needs_base else ("stages",)
        top = self._faults.members(root, RUN, needed)
        request = CreateTrainingRunRequest()
        recipe = request.fine_tune
        if node := top.get("name"):
            request.model_name = self._faults.string(node, NAME, "be 1 to 64 of a-z, 0-9, '-', '_', '.'")
            self.lines["model_name"] = node.line
        if node := top.get("base"):
            recipe.base_model = self._faults.string(node, MODEL, "be a model: name, name@n or sha256:…")
            self.lines["fine_tune.base_model"] = node.line
        if node := top.get("seed"):
            request.seed = self._faults.whole(node, 0, MAX_SEED)
            self.lines["seed"] = node.line
        if node := top.get("export"):
            if node.text not in EXPORTS:
                self._faults.add(node, f"must be {' or '.join(EXPORTS)}, got {node}")
            recipe.export = EXPORTS.get(node.text or "", EXPORTED_WEIGHTS_LAST)
            self.lines["fine_tune.export"] = node.line
        if node := top.get("adapter"):
            recipe.adapter.CopyFrom(self._adapter(node))
        self._fill(recipe, top, "fine_tune")
        if node := top.get("stages"):
            self.lines["fine_tune.stages"] = node.line
            for index, item in enumerate(self._items(node, "stages")):
                recipe.stages.append(self._stage(item, f"fine_tune.stages[{index}]"))
            names = [stage.name for stage in recipe.stages]
            for name in sorted({name for name in names if name and names.count(name) > 1}):
                self._faults.add(node, f"the name {name!r} stands twice")
            if (total := sum(stage.steps for stage in recipe.stages)) > MAX_STEPS:
                self._faults.add(node, f"must have at most {MAX_STEPS} steps together, got {total}")
        return request

    def _stage(self, node: Node, at: str) -> TrainingStage:
        found = self._faults.members(node, STAGE, ("name", "steps", "data"))
        stage = TrainingStage()
        self.lines[at] = node.line
        if name := found.get("name"):
            stage.name = self._faults.string(name, NAME, "be 1 to 64 of a-z, 0-9, '-', '_', '.'")
            self.lines[f"{at}.name"] = name.line
        if steps := found.get("steps"):
            stage.steps = self._faults.whole(steps, 1, MAX_STEPS)
            self.lines[f"{at}.steps"] = steps.line
        self._fill(stage, found, at)
        if stage.steps and stage.warmup_steps > stage.steps:
            self._faults.add(found["warmup_steps"], f"must be at most the stage's steps, {stage.steps}")
        if data := found.get("data"):
            for index, item in enumerate(self._items(data, "data sets")):
                stage.data.append(self._data(item, f"{at}.data[{index}]"))
        return stage

    def _adapter(self, node: Node) -> Adapter:
        adapter, at = Adapter(), "fine_tune.adapter"
        found = self._faults.members(node, ("kind", "rank", "alpha", "dropout", "targets"), ("kind",))
        self.lines[at] = node.line
        if kind := found.get("kind"):
            if kind.text not in KINDS:
                self._faults.add(kind, f"must be {' or '.join(KINDS)}, got {kind}")
            adapter.kind = KINDS.get(kind.text or "", ADAPTER_KIND_LORA)
        if rank := found.get("rank"):
            adapter.rank = self._faults.whole(rank, 1, 256)
        if alpha := found.get("alpha"):
            adapter.alpha = self._faults.within(alpha, 1e-6, 4096)
        if dropout := found.get("dropout"):
            adapter.dropout = self._faults.within(dropout, 0, 0.9)
        if targets := found.get("targets"):
            must = "be a group of layers: attention, feed_forward or all"
            adapter.targets.extend(
                self._faults.string(item, GROUP, must) for item in self._items(targets, "groups of layers")
            )
        self.lines |= {f"{at}.{name}": item.line for name, item in found.items()}
        return adapter

    def _data(self, node: Node, at: str) -> StageData:
        found = self._faults.members(node, ("dataset", "share", "subsets"), ("dataset",))
        data = StageData()
        self.lines[at] = node.line
        if name := found.get("dataset"):
            self.lines[f"{at}.dataset"] = name.line
            if text := self._faults.string(name, DATASET, "be a data set: name or name@n"):
                try:
                    ref, version = self._find(text)
                except NotFound as error:
                    self._faults.add(name, str(error))
                else:
                    data.dataset.CopyFrom(ref)
                    self.datasets += [version] if version not in self.datasets else []
        if share := found.get("share"):
            data.share = self._share(share)
            self.lines[f"{at}.share"] = share.line
        if subsets := found.get("subsets"):
            self.lines[f"{at}.subsets"] = subsets.line
            if not subsets.members or len(subsets.members) > MAX_ITEMS:
                self._faults.add(subsets, f"must be a mapping of 1 to {MAX_ITEMS} subsets to shares, got {subsets}")
            for name_of, share in (subsets.members or {}).items():
                if not NAME.fullmatch(name_of):
                    self._faults.add(share, "must be a subset: 1 to 64 of a-z, 0-9, '-', '_', '.'")
                self.lines[f"{at}.subsets[{len(data.subsets)}]"] = share.line
                data.subsets.add(subset=name_of, share=self._share(share))
        return data

    def _fill(self, message: Message, found: dict[str, Node], at: str) -> None:
        """The numbers and flags that a message has a field for."""
        for name, node in found.items():
            if name in WHOLE:
                setattr(message, name, self._faults.whole(node, *WHOLE[name]))
            elif name in NUMBERS:
                setattr(message, name, self._faults.within(node, *NUMBERS[name]))
            elif name in FLAGS:
                if not node.plain or node.text not in ("true", "false"):
                    self._faults.add(node, f"must be true or false, got {node}")
                setattr(message, name, node.text == "true")
            else:
                continue
            self.lines[f"{at}.{name}"] = node.line

    def _items(self, node: Node, what: str) -> list[Node]:
        items = self._faults.list(node, what)
        if len(items) > MAX_ITEMS:
            self._faults.add(node, f"must have at most {MAX_ITEMS} {what}, got {len(items)}")
        return items[:MAX_ITEMS]

    def _share(self, node: Node) -> float:
        value = node.number
        if value is None or not 0 < value <= MAX_SHARE:
            self._faults.add(node, f"must be a number above 0 and at most {MAX_SHARE:g}, got {node}")
            return 1.0
        return value

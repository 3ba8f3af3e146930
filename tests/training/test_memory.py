"""What a run is estimated to take is what it takes, and decides before anything is loaded."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.common.v1.common_pb2 import ADAPTER_KIND_DORA, ADAPTER_KIND_LORA, ArtifactRef
from luthier.training.v1.training_pb2 import Adapter, FineTune, TrainingStage
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Store
from luthier_model.configuration import Configuration, check, packaged
from luthier_model.memory import CPU_CONVOLUTIONS, MARGIN, free_bytes
from luthier_model.network import random_model
from luthier_training import memory
from luthier_training.base_model import BaseModel
from luthier_training.clip_encoder import ClipEncoder
from luthier_training.dataset import read_manifest
from luthier_training.encoding import encode
from luthier_training.examples import draw_batch
from luthier_training.job import Job
from luthier_training.ranks import Ranks
from luthier_training.recipes import RECIPES, fine_tune
from tests.support.measure import allocated

from .test_fine_tune import TUNE, job

ADAPTERS = {
    "all weights": {},
    "LoRA": {"adapter": Adapter(kind=ADAPTER_KIND_LORA, rank=4, alpha=4, targets=["all"])},
    "DoRA": {"adapter": Adapter(kind=ADAPTER_KIND_DORA, rank=4, alpha=4, targets=["attention"])},
}
GIB = 1 << 30


def counted(known: Configuration, recipe: FineTune, rows: int, *, half: bool = False, recompute: bool = False) -> Any:
    what = recipe.SerializeToString(deterministic=True)
    document = json.dumps(known.document, sort_keys=True)
    return memory._count(document, what, rows, half, recompute, fine_tune.COMPUTATION)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", ADAPTERS.values(), ids=ADAPTERS)
def test_a_step_takes_what_was_counted(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, known: Configuration, tmp_path: Path,
    kind: dict[str, Any], recompute: bool,
) -> None:  # fmt: skip
    recipe = FineTune(ema_decay=0.9, learning_rate=1e-3, **kind)
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=4, **TUNE))
    opened = BaseModel.open(store, base, "cpu", tmp_path / "base")
    train, _ = encode(asked, opened, read_manifest(store, dataset_ref))
    trained, batch = fine_tune.prepare(opened.model, recipe), draw_batch(train, 0, 16, 0.1, seed=4)

    def step() -> None:
        fine_tune.batch_loss(opened.model, batch, recompute=recompute).backward()  # type: ignore[no-untyped-call]

    step()  # what torch makes once is there from now on
    trained.gradients.forget()
    found = counted(known, recipe, 16, recompute=recompute)
    assert trained.average is not None
    there = (*opened.model.parameters(), *opened.model.buffers())
    sizes = [
        (found.step + found.gradient, allocated(step)),  # the gradient is made on the way
        (found.gradient, 4 * sum(each.numel() for each in trained.gradients.parameters)),
        (found.average, 4 * sum(each.numel() for each in trained.average.ema_model.parameters())),
        (found.model, sum(tensor.numel() * tensor.element_size() for tensor in there)),
    ]
    left = trained.adapter.left_to_lora if trained.adapter else ()
    for estimate, taken in sizes:
        if left:  # whether a row of the base is zero is not known before it is loaded: DoRA is counted, the larger
            assert taken <= 1.01 * estimate
        else:
            assert taken == pytest.approx(estimate, rel=0.05)


def test_encoding_and_decoding_take_what_was_counted() -> None:
    known = packaged("small")
    model, document = random_model(known, 1), json.dumps(known.document, sort_keys=True)
    window = torch.ones(known.channels, known.window_samples)
    latents = torch.zeros(1, known.latent_channels, known.window_latents)
    encoder = ClipEncoder(model, known, "cpu")
    with torch.no_grad():
        encoded = allocated(lambda: encoder.encode(window))
        decoded = allocated(lambda: model.pretransform.decode(latents))
    assert encoded == pytest.approx(memory._encoding_bytes(document, "cpu"), rel=MARGIN)
    whole = memory._decoding_bytes(document, "cpu")
    assert whole / CPU_CONVOLUTIONS <= decoded <= whole


def deeper(known: Configuration, depth: int) -> Configuration:
    document = copy.deepcopy(dict(known.document))
    document["model"]["diffusion"]["config"]["depth"] = depth
    return check(document)


def test_recomputing_half_precision_and_an_adapter_each_take_less_of_the_full_width() -> None:
    """Stable Audio Open at its window with 4 of its 24 layers, batches of 4."""
    known, whole = deeper(packaged(), 4), FineTune(learning_rate=1e-5)
    lora = FineTune(
        learning_rate=1e-5,
        adapter=Adapter(kind=ADAPTER_KIND_LORA, rank=16, alpha=16, targets=["attention", "feed_forward"]),
    )
    plain, half, recomputed = (
        counted(known, whole, 4, half=half, recompute=recompute)
        for half, recompute in ((False, False), (True, False), (True, True))
    )
    adapted = counted(known, lora, 4, half=True)
    assert half.step < 0.7 * plain.step
    assert recomputed.step < 0.5 * half.step
    assert adapted.gradient < 0.02 * half.gradient
    assert adapted.kept("cuda") < 0.6 * half.kept("cuda")


def decided(asked: Job, base: ModelVersion, known: Configuration, free: int, patch: pytest.MonkeyPatch) -> bool:
    patch.setattr(memory, "free_bytes", lambda device: free)
    return memory.choose(asked, known, base, fine_tune.COMPUTATION)


@pytest.fixture
def deep(known: Configuration) -> Configuration:
    """A model of which recomputing saves most."""
    return deeper(known, 5)


@pytest.fixture
def asked(store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path) -> Job:
    """A run on batches of 64 with all that takes memory."""
    recipe = FineTune(steps=4, ema_decay=0.9, samples=0, **{**TUNE, "batch_size": 64})
    return job(store, dataset_ref, tmp_path / "a", fine_tune=recipe)[0]


def needs(asked: Job, known: Configuration, rows: int, *, recompute: bool) -> int:
    """Bytes that must be free, with the margin."""
    recipe = asked.request.fine_tune
    most: int = counted(known, memory.decisive(recipe), rows, recompute=recompute).most("cpu")
    return round(most * (1 + MARGIN)) + 2


def test_activations_are_recomputed_where_they_do_not_fit(
    asked: Job, base: ModelVersion, deep: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, less = (needs(asked, deep, 64, recompute=recompute) for recompute in (False, True))
    assert less < 0.7 * plain
    noted = asked.reporter.progress.memory
    assert decided(asked, base, deep, plain, monkeypatch) is False
    assert (noted.free_bytes, noted.recomputes_activations) == (plain, False)
    assert noted.needed_bytes == pytest.approx(plain / (1 + MARGIN), abs=2)
    assert decided(asked, base, deep, plain - 4, monkeypatch) is True
    assert noted.recomputes_activations
    assert decided(asked, base, deep, less, monkeypatch) is True
    assert noted.needed_bytes == pytest.approx(less / (1 + MARGIN), abs=2)


def test_a_batch_that_does_not_fit_is_refused_by_the_largest_that_does(
    asked: Job, base: ModelVersion, deep: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = needs(asked, deep, 40, recompute=True)
    with pytest.raises(InvalidRequest) as refused:
        decided(asked, base, deep, free, monkeypatch)
    [(field, bound)] = refused.value.violations
    assert field == "fine_tune.batch_size"
    assert "accumulate, or ask for an adapter" in bound
    most = int(bound.partition("must be at most ")[2].split()[0])
    assert 36 <= most <= 40
    asked.request.fine_tune.batch_size = most
    assert decided(asked, base, deep, free, monkeypatch) is True
    asked.request.fine_tune.batch_size = 44
    with pytest.raises(InvalidRequest):
        decided(asked, base, deep, free, monkeypatch)


def test_a_sample_that_cannot_be_decoded_beside_training_is_refused(
    asked: Job, base: ModelVersion, deep: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked.request.fine_tune.batch_size = 1
    free = needs(asked, deep, 1, recompute=False)
    monkeypatch.setattr(memory, "_decoding_bytes", lambda document, device: free)
    assert decided(asked, base, deep, free, monkeypatch) is False
    asked.request.fine_tune.samples = 1
    with pytest.raises(InvalidRequest, match=r"fine_tune\.samples: must be 0"):
        decided(asked, base, deep, free, monkeypatch)


def test_the_stage_with_the_largest_batch_decides_and_ranks_share_a_machine(
    asked: Job, base: ModelVersion, deep: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = [TrainingStage(name=name, steps=1, batch_size=size) for name, size in (("a", 8), ("b", 64))]
    asked.request.fine_tune.stages.extend(stages)
    shared = replace(asked, ranks=Ranks(0, 2))
    assert decided(shared, base, deep, 2 * needs(asked, deep, 32, recompute=False), monkeypatch) is False
    with pytest.raises(InvalidRequest) as refused:
        decided(shared, base, deep, 2 * needs(asked, deep, 20, recompute=True), monkeypatch)
    [(field, bound)] = refused.value.violations
    assert field == "fine_tune.stages[1].batch_size"
    most = int(bound.partition("must be at most ")[2].split()[0])
    assert most % 2 == 0
    assert 36 <= most <= 40


def test_what_no_batch_size_mends_is_refused_by_what_does(
    asked: Job, base: ModelVersion, known: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = asked.request.fine_tune
    with pytest.raises(InvalidRequest, match=r"fine_tune\.adapter: must be given on this machine.*to encode"):
        decided(asked, base, known, 1 << 20, monkeypatch)
    recipe.window_seconds = 100
    with pytest.raises(InvalidRequest, match=r"fine_tune\.window_seconds: must be shorter"):
        decided(asked, base, known, 1 << 20, monkeypatch)
    recipe.window_seconds = 0
    recipe.adapter.CopyFrom(ADAPTERS["LoRA"]["adapter"])
    with pytest.raises(InvalidRequest, match=r"fine_tune\.base_model: must be a smaller model"):
        decided(asked, base, known, 1 << 20, monkeypatch)


def test_a_run_that_does_not_fit_ends_before_anything_is_loaded(asked: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: Any) -> None:
        raise AssertionError("the base was loaded")

    monkeypatch.setattr(memory, "free_bytes", lambda device: 1 << 20)
    monkeypatch.setattr(BaseModel, "open", opened)
    with pytest.raises(InvalidRequest, match="free on this cpu"):
        RECIPES["fine_tune"](asked)


def machine(folder: Path, available_kib: int, groups: dict[str, tuple[str, int, int]], own: str) -> tuple[Path, Path]:
    """Folders as /proc and /sys/fs/cgroup; of each group its limit, what it uses, and what of that caches files."""
    proc, cgroups = folder / "proc", folder / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable: {available_kib} kB\n")
    (proc / "self/cgroup").write_text(f"0::{own}\n")
    for name, (limit, used, cached) in groups.items():
        group = cgroups / name.lstrip("/")
        group.mkdir(parents=True, exist_ok=True)
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{used}\n")
        (group / "memory.stat").write_text(f"anon {used - cached}\ninactive_file {cached}\n")
    return proc, cgroups


def test_free_is_what_the_tightest_control_group_leaves(tmp_path: Path) -> None:
    free = 8 << 20
    assert free_bytes("cpu", *machine(tmp_path / "none", free, {}, "/")) == 8 * GIB
    groups = {"/": ("max", 0, 0), "/pods": (str(6 * GIB), 3 * GIB, GIB), "/pods/one": (str(5 * GIB), 2 * GIB, 0)}
    assert free_bytes("cpu", *machine(tmp_path / "nested", free, groups, "/pods/one")) == 3 * GIB
    groups["/pods"] = (str(6 * GIB), 4 * GIB, 0)
    assert free_bytes("cpu", *machine(tmp_path / "parent", free, groups, "/pods/one")) == 2 * GIB
    assert free_bytes("cpu", *machine(tmp_path / "container", free, {"/": (str(GIB), GIB, 0)}, "/")) == 0


def test_free_of_this_machine_is_what_a_process_can_take() -> None:
    assert 64 << 20 < free_bytes("cpu") < 1 << 50

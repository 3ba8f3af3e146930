"""Two processes train as one would, and a run of theirs ends as one."""

import itertools
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from luthier.common.v1.common_pb2 import ADAPTER_KIND_DORA, ArtifactRef
from luthier.training.v1.training_pb2 import Adapter
from luthier_kit.registry import RUN_STATE_RUNNING, RUN_STATE_SUCCEEDED, ModelVersion, resolve
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Store
from luthier_training import runner
from luthier_training.base_model import StoredLatents
from luthier_training.examples import Example
from luthier_training.job import Job
from luthier_training.launchers.launcher import runner_arguments
from luthier_training.ranks import Ranks
from luthier_training.recipes import fine_tune
from luthier_training.reporting import RankLost
from luthier_training.runs import TrainingRun

from .conftest import queued_tuning


def torchrun(run_id: str, processes: int, environment: dict[str, str]) -> int:
    """Works on a run as a Job's Pod does; returns the exit code."""
    command = [sys.executable, *runner_arguments(run_id, processes)]
    return subprocess.run(command, env={**os.environ, **environment}, timeout=300, check=False).returncode


def forked(run_id: str, processes: int, environment: dict[str, str]) -> int:
    """The same ranks as children of this process: seconds instead of a minute, since nothing is imported again."""
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes)}
    once = {"TORCHELASTIC_RUN_ID": str(uuid.uuid4())}
    children = []
    for rank in range(processes):
        child = os.fork()
        if not child:
            os.environ.update({**environment, **meet, **once, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            code = 99
            try:
                code = runner.main(run_id)
            finally:
                os._exit(code)
        children.append(child)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def weights(store: Store, tmp_path: Path, end: TrainingRun) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(store.blobs.fetch(resolve(store, end.result.model).checkpoint, tmp_path))
    return found


@pytest.mark.parametrize("work", [forked, pytest.param(torchrun, marks=pytest.mark.slow)])
def test_two_processes_train_as_one(
    store: Store,
    base: ModelVersion,
    dataset_ref: ArtifactRef,
    tmp_path: Path,
    work: Callable[[str, int, dict[str, str]], int],
) -> None:
    environment = {"DEVICE": "cpu", "LUTHIER_STORE_FOLDER": str(tmp_path / "store"), "LUTHIER_SCRATCH": str(tmp_path)}
    ends = []
    for processes in (1, 2):
        record = queued_tuning(store, dataset_ref, f"by-{processes}", accumulate=2, ema_decay=0.9, metadata_share=0.7)
        code = work(record.id, processes, environment)
        end = record.read()
        assert (code, end.state) == (0, RUN_STATE_SUCCEEDED), end.error
        ends.append(end)
    for name in ("training", "validation"):
        alone, together = ([point.loss for point in getattr(end.progress, name)] for end in ends)
        assert together == pytest.approx(alone, rel=1e-4)
        assert len(alone) == (8 if name == "training" else 3)
    one, two = (weights(store, tmp_path, end) for end in ends)
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4)
    assert [end.attempts for end in ends] == [1, 1]


def test_two_processes_train_an_adapter_as_one(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    """Here DoRA on some layers and LoRA on those that begin at zero."""
    environment = {"DEVICE": "cpu", "LUTHIER_STORE_FOLDER": str(tmp_path / "store"), "LUTHIER_SCRATCH": str(tmp_path)}
    found = []
    for processes in (1, 2):
        adapter = Adapter(kind=ADAPTER_KIND_DORA, rank=4)
        record = queued_tuning(store, dataset_ref, f"adapter-by-{processes}", ema_decay=0.9, adapter=adapter)
        assert forked(record.id, processes, environment) == 0
        [made] = resolve(store, record.read().result.model).adapters
        found.append(load_file(store.blobs.fetch(made.artifact, tmp_path)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)


def test_a_rank_that_dies_leaves_a_run_that_goes_on_from_its_checkpoint(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    environment = {"DEVICE": "cpu", "LUTHIER_STORE_FOLDER": str(tmp_path / "store"), "LUTHIER_SCRATCH": str(tmp_path)}
    whole = queued_tuning(store, dataset_ref, "whole")
    assert forked(whole.id, 1, environment) == runner.ENDED
    record = queued_tuning(store, dataset_ref, "parts", checkpoint_every=2)

    batch_loss, numbers = fine_tune.batch_loss, itertools.count(1)

    def dies_in_the_sixth(*arguments: Any, **options: Any) -> torch.Tensor:
        if next(numbers) == 6 and os.environ["RANK"] == "1":
            os._exit(9)
        return batch_loss(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tune, "batch_loss", dies_in_the_sixth)
        assert forked(record.id, 2, environment) == 9
    left = record.read()
    assert (left.state, left.progress.checkpoint_step) == (RUN_STATE_RUNNING, 4)
    assert forked(record.id, 2, environment) == runner.ENDED
    ends = [whole.read(), record.read()]
    assert [end.attempts for end in ends] == [1, 2]
    one, two = (weights(store, tmp_path, end) for end in ends)
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4)


def test_ranks_on_one_machine_have_one_copy_of_what_is_encoded(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    environment = {"DEVICE": "cpu", "LUTHIER_STORE_FOLDER": str(tmp_path / "store"), "LUTHIER_SCRATCH": str(tmp_path)}
    record = queued_tuning(store, dataset_ref, "shared")
    fit = fine_tune.fit

    def noting(job: Job, model: Any, train: Sequence[Example], *rest: Any, **options: Any) -> Any:
        [folder] = {example.latents.path.parent for example in train if isinstance(example.latents, StoredLatents)}
        (tmp_path / f"rank-{job.ranks.rank}").write_text(str(folder))
        return fit(job, model, train, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tune, "fit", noting)
        assert forked(record.id, 2, environment) == 0
    first, second = ((tmp_path / f"rank-{rank}").read_text() for rank in (0, 1))
    assert first == second
    assert not Path(first).exists()  # rank 0 took it away


def test_ranks_of_several_machines_keep_their_own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also where rank 0's happens to be there, too."""
    monkeypatch.setattr("torch.distributed.broadcast", lambda tensor, source: None)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert Ranks(0, 2).shared(tmp_path) == tmp_path
    other = tmp_path / "ä other"
    other.mkdir()

    def hear(tensor: torch.Tensor, source: int) -> None:
        tensor.zero_()
        name = os.fsencode(other)
        tensor[: len(name)] = torch.tensor(list(name), dtype=torch.uint8)

    monkeypatch.setattr("torch.distributed.broadcast", hear)
    assert Ranks(1, 2).shared(tmp_path) == other
    assert Ranks(1, 4).shared(tmp_path) == tmp_path


def test_the_mean_of_one_rank_is_its_own_value() -> None:
    assert Ranks().mean(3.5) == 3.5


def test_a_rank_that_does_not_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr("torch.distributed.all_reduce", broken)
    with pytest.raises(RankLost, match="Connection closed by peer"):
        Ranks(0, 2).average(torch.zeros(3))


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"fine_tune.batch_size: must be a multiple of the 3 processes"):
        Ranks(0, 3).rows(4)


def test_each_rank_does_its_own_share_first() -> None:
    assert Ranks(1, 3).own_first(7) == [1, 4, 0, 2, 3, 5, 6]
    assert Ranks().own_first(3) == [0, 1, 2]

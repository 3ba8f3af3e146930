"""Two processes train as one would, and a run of theirs ends as one."""

import json
import os
import socket
import subprocess
import sys
import uuid

import pytest
import torch
from safetensors.torch import load_file

from luthier_kit.errors import InvalidRequest
from luthier_kit.models import resolve
from luthier_training import runner
from luthier_training.launchers.launcher import arguments
from luthier_training.ranks import CutDraws, Ranks

from .conftest import queued_tuning


def torchrun(run_id, processes, environment):
    """Works on a run as a Job's Pod does; returns the exit code."""
    command = [sys.executable, *arguments(run_id, processes)]
    return subprocess.run(command, env={**os.environ, **environment}, timeout=300, check=False).returncode


def forked(run_id, processes, environment):
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


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def weights(store, tmp_path, end):
    return load_file(store.fetch(resolve(store, end.result["model"]).checkpoint, tmp_path))


@pytest.mark.parametrize("work", [forked, pytest.param(torchrun, marks=pytest.mark.slow)])
def test_two_processes_train_as_one(store, base, dataset_ref, tmp_path, work):
    environment = {"DEVICE": "cpu", "LUTHIER_STORE_FOLDER": str(tmp_path / "store"), "LUTHIER_SCRATCH": str(tmp_path)}
    ends = []
    for processes in (1, 2):
        record = queued_tuning(store, dataset_ref, f"by-{processes}", accumulate=2, ema_decay=0.9)
        code = work(record.id, processes, environment)
        end = record.read()
        assert (code, end.state) == (0, "SUCCEEDED"), json.dumps(end.error)
        ends.append(end)
    for name in ("training", "validation"):
        alone, together = ([loss for _, loss in end.progress[name]] for end in ends)
        assert together == pytest.approx(alone, rel=1e-4)
        assert len(alone) == (8 if name == "training" else 3)
    one, two = (weights(store, tmp_path, end) for end in ends)
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4)
    assert [end.attempts for end in ends] == [1, 1]


def test_draws_of_the_parts_are_the_draws_of_the_whole():
    def draws(rows):
        torch.manual_seed(3)
        return torch.randn_like(torch.zeros(rows, 2, 5)), torch.bernoulli(torch.full((rows, 1, 1), 0.5))

    whole, parts = draws(6), []
    for rank in range(3):
        with CutDraws(Ranks(rank, 3)):
            parts.append(draws(2))
    for place in range(2):
        assert torch.equal(torch.cat([part[place] for part in parts]), whole[place])


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(InvalidRequest, match=r"fine_tune.batch_size: must be a multiple of the 3 processes"):
        Ranks(0, 3).rows(4)


def test_each_rank_does_its_own_share_first():
    assert Ranks(1, 3).own_first(7) == [1, 4, 0, 2, 3, 5, 6]
    assert Ranks().own_first(3) == [0, 1, 2]

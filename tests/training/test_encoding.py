"""Clips are read ahead, encoded on one thread, once each; a run may stop between any two parts."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import FineTune
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Store
from luthier_model.configuration import Configuration
from luthier_training import audio, encoding
from luthier_training.base_model import BaseModel, Excerpt, Latents, StoredLatents
from luthier_training.clip_encoder import ClipEncoder
from luthier_training.dataset import read_manifest
from luthier_training.encoding import Encode, Room, encode, with_ahead
from luthier_training.examples import EXCERPTS_PER_CLIP, excerpts
from luthier_training.reporting import Reporter, Stopped

from .conftest import SECONDS, latents_of, register_base
from .test_fine_tune import TUNE, job

TIMEOUT_S = 60.0
"""Of what would otherwise hang; no test takes so long."""


def nothing(samples: torch.Tensor) -> Latents:
    return Latents(samples, samples, 1.0)


class StopsAfterOne(Reporter):
    """Told to stop once one clip is encoded."""

    def advance(self, done: int, *rest: Any) -> None:
        super().advance(done, *rest)
        self.stop()


def test_all_parts_are_those_of_one_at_a_time(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    """The same actions and the same latents, whichever thread did what."""
    opened = BaseModel.open(store, base, "cpu", tmp_path / "base")
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(min_excerpt_s=1, **TUNE))
    manifest = read_manifest(store, dataset_ref)
    train, held_out = encode(asked, opened, manifest)
    actions = set(store.objects.keys("actions/latents/"))
    assert len(actions) == len(SECONDS) + 2 * EXCERPTS_PER_CLIP == len(train) + len(held_out)

    for key in [*actions, *store.objects.keys("latents/")]:
        store.objects.delete(key)
    wanted = [
        latents_of(opened, excerpt, tmp_path / "one").read()
        for clip, seconds in zip(manifest.rows[:2], SECONDS, strict=False)
        for excerpt in [Excerpt(clip), *excerpts(clip, seconds, 1.0, asked.request.seed)]
    ]
    assert set(store.objects.keys("actions/latents/")) < actions
    for example, alone in zip(train, wanted, strict=True):
        assert isinstance(example.latents, StoredLatents)
        found = example.latents.read()
        assert torch.equal(found.mean, alone.mean)
        assert torch.equal(found.deviation, alone.deviation)
        assert found.seconds_total == alone.seconds_total


def test_a_clip_is_decoded_once_for_all_its_parts_and_not_at_all_when_they_are_known(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, decoded = audio.read, list[str]()

    def noted(path: Path, known: Configuration) -> torch.Tensor:
        decoded.append(path.name)
        return read(path, known)

    monkeypatch.setattr(audio, "read", noted)
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(min_excerpt_s=1, **TUNE))
    for _ in range(2):
        opened = BaseModel.open(store, base, "cpu", tmp_path / "base")
        encode(asked, opened, read_manifest(store, dataset_ref))
    assert len(decoded) == len(set(decoded)) == len(SECONDS)


def test_a_run_that_stops_between_clips_goes_on_with_those_that_are_left(
    store: Store,
    known: Any,
    base_files: tuple[Path, Path],
    dataset_ref: ArtifactRef,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encoding, "THREADS", 1)
    base, encode_clip, encoded = register_base(store, known, base_files), ClipEncoder.encode, list[int]()

    def counted(self: ClipEncoder, samples: torch.Tensor) -> Latents:
        encoded.append(1)
        return encode_clip(self, samples)

    monkeypatch.setattr(ClipEncoder, "encode", counted)
    opened = BaseModel.open(store, base, "cpu", tmp_path / "base")
    asked, _ = job(store, dataset_ref, tmp_path / "a", reporter=StopsAfterOne, fine_tune=FineTune(**TUNE))
    with pytest.raises(Stopped):
        encode(asked, opened, read_manifest(store, dataset_ref))
    assert encoded == [1]
    again, _ = job(store, dataset_ref, tmp_path / "b", "again", fine_tune=FineTune(**TUNE))
    train, held_out = encode(again, opened, read_manifest(store, dataset_ref))
    assert len(encoded) == len(train) + len(held_out) == len(SECONDS)


def test_encoding_is_the_callers_threads_work_and_the_rest_is_not() -> None:
    threads: dict[str, set[int]] = {"encode": set(), "read": set()}

    def encode_one(samples: torch.Tensor) -> Latents:
        threads["encode"].add(threading.get_ident())
        return nothing(samples)

    def task(number: int) -> Callable[[Encode], float]:
        def run(given: Encode) -> float:
            threads["read"].add(threading.get_ident())
            return float(given(torch.tensor(float(number))).mean)

        return run

    assert sorted(with_ahead((task(number) for number in range(20)), encode_one)) == list(range(20))
    assert threads["encode"] == {threading.get_ident()}
    assert threading.get_ident() not in threads["read"]


def test_tasks_begin_no_earlier_than_they_can_run() -> None:
    """A data set of a hundred thousand clips is not all read at once."""
    begun: list[int] = []

    def tasks() -> Any:
        for number in range(50):
            begun.append(number)
            yield lambda given: given(torch.zeros(1))

    results = with_ahead(tasks(), nothing)
    next(results)
    assert len(begun) <= encoding.THREADS + 1
    results.close()
    assert len(begun) <= encoding.THREADS + 1


@pytest.mark.parametrize("where", ["reading", "encoding"])
def test_what_fails_is_raised_and_leaves_no_thread_behind(where: str) -> None:
    before, refused = threading.active_count(), InvalidRequest("is no audio", reason="AUDIO_INVALID")
    asked = threading.Event()

    def encode_one(samples: torch.Tensor) -> Latents:
        if where == "encoding":
            raise refused
        return nothing(samples)

    def fails(given: Encode) -> Latents:
        if where == "reading":
            assert asked.wait(TIMEOUT_S)  # the other is under way
            raise refused
        return given(torch.zeros(1))

    def other(given: Encode) -> Latents:
        asked.set()
        return given(torch.zeros(1))

    with pytest.raises(InvalidRequest, match="is no audio"):
        list(with_ahead([fails, other, fails, other], encode_one))
    assert threading.active_count() == before


def test_room_is_shared_and_what_is_larger_than_all_of_it_is_alone() -> None:
    room, held, entered = Room(10), threading.Event(), threading.Event()

    def large() -> None:
        with room.taken(1000):
            entered.set()

    with room.taken(6), room.taken(4):
        thread = threading.Thread(target=large)
        thread.start()
        held.set()
        assert not entered.is_set()
    thread.join(TIMEOUT_S)
    assert entered.is_set()
    with room.taken(10):  # all of it is given back
        pass

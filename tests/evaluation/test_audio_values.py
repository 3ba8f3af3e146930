"""Evaluations that listen: real weights of musicnn, from its package, over the loopback services."""

import io
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import soundfile
from conftest import Platform

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier.evaluation.v1.evaluation_pb2_grpc import EvaluationServiceStub
from luthier_evaluation.conversion.__main__ import convert
from luthier_evaluation.embedders import Embedder
from luthier_evaluation.embedding import embed_audio, read_embedding
from luthier_evaluation.service import service
from luthier_evaluation.weights import Weights
from luthier_kit.rpc import Channel, FailedPrecondition, InvalidRequest
from luthier_kit.store import Store
from tests.support.services import running

NAME = "musicnn_msd"
RATE = 8000


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    convert(NAME, None, folder)
    return folder


@pytest.fixture
def listening(platform: Platform, weights_folder: Path) -> Iterator[Platform]:
    """The platform with an evaluation service that has musicnn."""
    settings = replace(platform.settings, metric_weights=str(weights_folder))
    with ExitStack() as stack:
        address = stack.enter_context(running(service(platform.store, settings), settings))
        channel = stack.enter_context(Channel(address))
        yield Platform(platform.store, platform.inference, settings, EvaluationServiceStub(channel))


def noise(store: Store, seed: int, seconds: float = 4.0, level: float = 0.1, low_pass: int = 1) -> ArtifactRef:
    samples = level * np.random.default_rng(seed).standard_normal((round(seconds * RATE), 2))
    samples = np.apply_along_axis(np.convolve, 0, samples, np.ones(low_pass) / low_pass, "same")
    out = io.BytesIO()
    soundfile.write(out, samples, RATE, format="FLAC")
    return store.blobs.put_bytes("audio", out.getvalue(), "flac", "audio/flac")


def audio_set(store: Store, name: str, refs: list[ArtifactRef]) -> ArtifactRef:
    items = [pb.AudioItem(audio=ref, name=f"{index}.flac") for index, ref in enumerate(refs)]
    return store.put("audio-sets", pb.AudioSet(name=name, items=items))


def by_metric(evaluation: pb.Evaluation, model: str) -> dict[str, pb.Score]:
    return {score.metric: score for score in evaluation.scores if score.model == model}


def test_an_embedding_is_stored_and_not_computed_again(store: Store, weights_folder: Path) -> None:
    weights = Weights(store, weights_folder)
    embedders = weights.embedders(weights.at_hand())
    ref = noise(store, 1)

    first = embed_audio(store, ref, embedders)[0]
    again = embed_audio(store, ref, {NAME: cast(Embedder, _Deaf(embedders[NAME]))})[0]

    assert first.windows > 0
    assert again.values.sha256 == first.values.sha256


class _Deaf:
    """An embedder that must not be asked."""

    def __init__(self, other: Embedder) -> None:
        self.weights_sha256 = other.weights_sha256
        self.name = NAME


def test_silence_has_no_embedding(store: Store, weights_folder: Path) -> None:
    weights = Weights(store, weights_folder)

    found = embed_audio(store, noise(store, 1, level=0.0), weights.embedders(weights.at_hand()))[0]

    assert found.windows == 0
    assert read_embedding(store, found) is None


def test_audio_too_short_to_be_heard_is_refused_with_its_length(store: Store, weights_folder: Path) -> None:
    weights = Weights(store, weights_folder)

    with pytest.raises(InvalidRequest, match=r"lasts 0\.25 s, at least 0\.5 s"):
        embed_audio(store, noise(store, 1, seconds=0.25), weights.embedders(weights.at_hand()))


def test_a_folder_goes_before_the_store(store: Store, weights_folder: Path) -> None:
    other = store.blobs.put_bytes("metric-weights", b"other", "safetensors")
    store.series(pb.MetricWeights, f"metric-weights/{NAME}").append(pb.MetricWeights(name=NAME, weights=other))

    (found,) = Weights(store, weights_folder).at_hand()

    assert found.weights_sha256 != other.sha256
    assert Weights(store, None).at_hand()[0].weights_sha256 == other.sha256


def test_weights_that_an_evaluation_began_with_must_be_there(store: Store, weights_folder: Path) -> None:
    gone = pb.EvaluatedBy(embedder=NAME, weights_sha256="0" * 64)

    with pytest.raises(FailedPrecondition, match="bring them back"):
        Weights(store, weights_folder).embedders([gone])


def test_weights_that_fit_no_embedder_are_not_registered(listening: Platform) -> None:
    wrong = listening.store.blobs.put_bytes("metric-weights", b"no weights at all", "safetensors")

    with pytest.raises(InvalidRequest, match="not a safetensors file"):
        listening.evaluation.RegisterMetricWeights(pb.RegisterMetricWeightsRequest(name=NAME, weights=wrong))


def test_registered_weights_are_listed_and_the_same_again_change_nothing(
    platform: Platform, weights_folder: Path
) -> None:
    ref = platform.store.blobs.put_file("metric-weights", weights_folder / f"{NAME}.safetensors")
    request = pb.RegisterMetricWeightsRequest(name=NAME, weights=ref, created_by="ada")

    first, again = (platform.evaluation.RegisterMetricWeights(request) for _ in range(2))
    listed = platform.evaluation.ListMetricWeights(pb.ListMetricWeightsRequest()).embedders

    assert (first.unchanged, again.unchanged) == (False, True)
    assert {state.name: state.weights_sha256 for state in listed}[NAME] == ref.sha256


def test_rows_that_sound_as_their_references_diverge_less(listening: Platform) -> None:
    suite = pb.Suite(name="own")
    for seed in range(2):
        suite.rows.add(
            prompt="A song in C major at 120 BPM",
            seconds_total=4,
            seed=9000 + seed,
            reference=noise(listening.store, seed, low_pass=9),
        )

    done = listening.done(suite=suite, suite_name=None, seconds_total=None)
    found = by_metric(done, "tuned@1")

    assert found[f"kl_{NAME}"].value > 0
    assert found[f"kl_{NAME}"].n == 2
    assert not found[f"fd_{NAME}"].HasField("value")
    assert "needed" in found[f"fd_{NAME}"].note


def test_a_distance_needs_a_reference_and_says_so(listening: Platform) -> None:
    done = listening.done(max_rows=1, baseline_model="")

    assert "no reference" in by_metric(done, "tuned@1")[f"fd_{NAME}"].note


@pytest.mark.slow
def test_a_system_is_nearer_to_audio_of_its_kind(listening: Platform) -> None:
    store = listening.store
    reference = audio_set(store, "reference", [noise(store, seed, seconds=75, low_pass=9) for seed in range(3)])
    same, other = (
        audio_set(store, f"width-{width}", [noise(store, 10 + seed, seconds=75, low_pass=width) for seed in range(3)])
        for width in (9, 1)
    )
    suite = pb.Suite(name="own", rows=[pb.SuiteRow(prompt="noise", seconds_total=75, seed=s) for s in range(3)])

    created = listening.create(
        candidate_model="", baseline_model="", candidate_audio=same, baseline_audio=other, reference_audio=reference,
        suite=suite, suite_name=None, seconds_total=None,
    )  # fmt: skip
    done = listening.wait(created.evaluation_id, timeout_s=600)
    near, far = (
        {score.model: score for score in done.scores if score.metric == f"fd_{NAME}"}[model]
        for model in (done.candidate, done.baseline)
    )

    assert near.value < far.value / 3
    assert not near.HasField("floor")  # half of the reference's windows are too few


def test_the_key_is_told_by_the_notes_where_a_second_opinion_is_asked_for(platform: Platform) -> None:
    asked = platform.done("asked", max_rows=2, baseline_model="", key_by_notes=True)
    plain = platform.done("plain", max_rows=2, baseline_model="")

    assert by_metric(asked, "tuned@1")["key_by_notes"].n == 2
    assert "key_by_notes" not in by_metric(plain, "tuned@1")

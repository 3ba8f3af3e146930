"""EmbedAudio and EmbedText: what comes over gRPC is what the network gives, once for each piece of audio."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from test_clap import SMALL, laion, tokenizer
from transformers import ClapModel

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier.evaluation.v1.evaluation_pb2_grpc import EvaluationServiceStub
from luthier_evaluation import embedding
from luthier_evaluation.conversion import clap as conversion
from luthier_evaluation.embedders import EMBEDDERS, Kind, clap
from luthier_evaluation.embedders.clap import Clap
from luthier_evaluation.embedders.weights import read_weights, write_weights
from luthier_evaluation.embedding import mean_direction
from luthier_evaluation.service import service
from luthier_evaluation.settings import EvaluationSettings
from luthier_kit.rpc import Channel, FailedPrecondition, InvalidRequest
from luthier_kit.store import Store
from tests.support.services import running


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """Random weights of CLAP, its text encoder small, by transformers' names."""
    state = laion(SMALL).model.state_dict()
    return {name: conversion._part(state[conversion.laions_name(name)], name) for name in clap.weight_shapes(SMALL)}


@pytest.fixture(scope="module")
def weights(tensors: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an operator who has brought them."""
    folder = tmp_path_factory.mktemp("weights")
    write_weights(folder / "clap.safetensors", tensors, {"luthier.embedder": "clap"})
    return folder


def open_small(path: Path) -> Clap:
    """As `open_clap` opens weights of the published size."""
    found = read_weights(path, clap.NAME, clap.weight_shapes(SMALL))
    return Clap(found.sha256, found.tensors, tokenizer(), SMALL)


@pytest.fixture
def evaluation(store: Store, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EvaluationServiceStub]:
    """The service, whose weights of CLAP are these and whose others are absent."""
    monkeypatch.setitem(EMBEDDERS, "clap", Kind("CLAP", EMBEDDERS["clap"].bring, open_small, texts=True))
    settings = EvaluationSettings(address="127.0.0.1:0", metric_weights=str(weights))
    with ExitStack() as stack:
        address = stack.enter_context(running(service(store, settings), settings))
        yield EvaluationServiceStub(stack.enter_context(Channel(address, retry_budget_s=1.0)))


def sound(store: Store, folder: Path, hz: float, seconds: float = 3.0, gain: float = 0.5) -> ArtifactRef:
    """A tone with an overtone, at 48 kHz."""
    at_s = np.arange(round(seconds * clap.SAMPLE_RATE_HZ)) / clap.SAMPLE_RATE_HZ
    samples = gain * (np.sin(2 * np.pi * hz * at_s) + 0.5 * np.sin(4 * np.pi * hz * at_s)) / 1.5
    path = folder / f"{hz}-{gain}.flac"
    soundfile.write(path, samples, clap.SAMPLE_RATE_HZ, subtype="PCM_24")
    return store.blobs.put_file("clips", path, media_type="audio/flac")


def by_transformers(tensors: dict[str, torch.Tensor]) -> ClapModel:
    """The reference model with the same weights."""
    model = ClapModel(SMALL.config())
    model.load_state_dict(tensors, strict=False)
    model.train(False)
    return model


def test_vectors_of_audio_are_those_of_transformers_model(
    evaluation: EvaluationServiceStub, tensors: dict[str, torch.Tensor], store: Store, tmp_path: Path
) -> None:
    audio = [sound(store, tmp_path, hz) for hz in (220.0, 330.0)]
    answer = evaluation.EmbedAudio(pb.EmbedAudioRequest(embedder="clap", audio=audio))
    model = by_transformers(tensors)
    for ref, found in zip(audio, answer.vectors, strict=True):
        samples, _ = soundfile.read(store.blobs.fetch(ref, tmp_path), dtype="float32")
        level = samples * (10 ** (-1 / 20) / np.abs(samples).max())  # stable-audio-metrics: -1 dBFS, int16, repeated
        mono = np.tile((level * 32767).astype(np.int16).astype(np.float32) / 32767, 3)
        mel = clap.spectrogram(torch.from_numpy(np.pad(mono, (0, clap.WINDOW_SAMPLES - len(mono)))))
        with torch.inference_mode():
            given = model.get_audio_features(input_features=mel.expand(1, 4, -1, -1), is_longer=torch.tensor([[False]]))
        reference = torch.nn.functional.normalize(getattr(given, "pooler_output", given), dim=-1)[0].numpy()
        np.testing.assert_allclose(np.array(found.values, np.float32), reference, atol=5e-4)  # rounding to int16
    apart = np.subtract(answer.vectors[0].values, answer.vectors[1].values)
    assert np.abs(apart).max() > 5e-3, "sounds are told apart"


def test_vectors_of_texts_are_those_of_transformers_model(
    evaluation: EvaluationServiceStub, tensors: dict[str, torch.Tensor]
) -> None:
    texts = ["slow jazz", "fast metal with two guitars"]
    answer = evaluation.EmbedText(pb.EmbedTextRequest(embedder="clap", texts=texts))
    model, made = by_transformers(tensors), tokenizer()
    for text, found in zip(texts, answer.vectors, strict=True):
        with torch.inference_mode():
            ids = torch.tensor([made.encode(text).ids])
            given = model.get_text_features(input_ids=ids, attention_mask=torch.ones_like(ids))
        reference = torch.nn.functional.normalize(getattr(given, "pooler_output", given), dim=-1)[0].numpy()
        np.testing.assert_allclose(np.array(found.values, np.float32), reference, atol=1e-4)


def test_audio_is_listened_to_once_and_its_weights_are_named(
    evaluation: EvaluationServiceStub, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = sound(store, tmp_path, 220.0)
    first = evaluation.EmbedAudio(pb.EmbedAudioRequest(embedder="clap", audio=[audio]))
    monkeypatch.setattr(embedding, "read_part", lambda *_: pytest.fail("it was listened to again"))
    again = evaluation.EmbedAudio(pb.EmbedAudioRequest(embedder="clap", audio=[audio, audio]))
    assert list(again.vectors) == [first.vectors[0]] * 2
    state = next(one for one in evaluation.ListMetricWeights(pb.ListMetricWeightsRequest()).embedders
                 if one.name == "clap")  # fmt: skip
    assert first.weights_sha256 == state.weights_sha256 != ""


def test_what_has_no_vector_says_why_and_does_not_spoil_the_others(
    evaluation: EvaluationServiceStub, store: Store, tmp_path: Path
) -> None:
    good = sound(store, tmp_path, 220.0)
    silent = sound(store, tmp_path, 220.0, gain=0.0)
    broken = store.blobs.put_bytes("clips", b"fLaC broken", "flac", "audio/flac")
    gone = ArtifactRef(key=f"clips/{'0' * 64}.flac", sha256="0" * 64, size_bytes=1, media_type="audio/flac")
    taken = sound(store, tmp_path, 440.0)
    store.blobs.take_down(taken.sha256, by="Ada", reason="licence")
    answer = evaluation.EmbedAudio(pb.EmbedAudioRequest(embedder="clap", audio=[silent, broken, gone, taken, good]))
    assert [len(one.values) for one in answer.vectors] == [0, 0, 0, 0, 512]
    assert [one.error.code for one in answer.vectors] == [0, 3, 5, 5, 0]  # OK, INVALID_ARGUMENT, NOT_FOUND


def test_without_weights_it_is_said_what_to_bring(
    evaluation: EvaluationServiceStub, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(FailedPrecondition, match="luthier metric-weights passt") as refused:
        evaluation.EmbedAudio(pb.EmbedAudioRequest(embedder="passt", audio=[sound(store, tmp_path, 220.0)]))
    assert refused.value.reason == "WEIGHTS_ABSENT"


REF = ArtifactRef(key=f"clips/{'0' * 64}.flac", sha256="0" * 64, size_bytes=1)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.EmbedAudioRequest(embedder="nobody", audio=[REF]), "embedder"),
        (pb.EmbedAudioRequest(embedder="clap"), "audio"),
        (pb.EmbedAudioRequest(embedder="clap", audio=[REF] * 65), "audio"),
        (pb.EmbedTextRequest(embedder="musicnn_msd", texts=["x"]), "embedder"),
        (pb.EmbedTextRequest(embedder="clap"), "texts"),
        (pb.EmbedTextRequest(embedder="clap", texts=[" "]), "texts[0]"),
        (pb.EmbedTextRequest(embedder="clap", texts=["x" * 2001]), "texts[0]"),
    ],
)
def test_bad_requests_are_refused_by_field(
    evaluation: EvaluationServiceStub, request_: pb.EmbedAudioRequest | pb.EmbedTextRequest, field: str
) -> None:
    method = evaluation.EmbedAudio if isinstance(request_, pb.EmbedAudioRequest) else evaluation.EmbedText
    with pytest.raises(InvalidRequest) as refused:
        method(request_)
    assert refused.value.violations[0][0].startswith(field)


def test_a_vector_of_windows_is_the_mean_of_their_directions() -> None:
    vectors = np.array([[3, 0], [0, 0.1]], np.float32)  # east, long; north, short: each counts the same
    np.testing.assert_allclose(mean_direction(vectors), [np.sqrt(0.5)] * 2, rtol=1e-6)
    assert np.linalg.norm(mean_direction(np.ones((5, 7), np.float32))) == pytest.approx(1)

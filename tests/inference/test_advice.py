"""What a prompt asks for and the model hardly heard is said with the audio, and is never an error."""

import json
import logging
from dataclasses import replace

import pytest

from luthier.inference.v1 import inference_pb2 as pb
from luthier.training.v1.model_card_pb2 import HeardAmount, HeardTempo, ModelCard
from luthier_inference.advice import Cards, advice_of, heard_of
from luthier_kit.registry import ModelVersion, register
from luthier_music.captions.asked import asked_of
from tests.model.small import ModelFiles

from .conftest import Served, version_of
from .test_generate import request

HOUR_S = 3600.0
CARD = ModelCard(
    duration_s=8 * HOUR_S,
    base_duration_s=2 * HOUR_S,
    instruments=[
        HeardAmount(name="Acoustic Grand Piano", duration_s=5 * HOUR_S),
        HeardAmount(name="Drums", duration_s=4 * HOUR_S),
        HeardAmount(name="Cello", duration_s=600),
        HeardAmount(name="Violin", duration_s=200, base_duration_s=60),
        HeardAmount(name="Flute", duration_s=200, base_duration_s=120),
    ],
    genres=[
        HeardAmount(name="rock", duration_s=4 * HOUR_S),
        HeardAmount(name="jazz", duration_s=HOUR_S),
        HeardAmount(name="swing", duration_s=HOUR_S / 2),
    ],
    tempi=[
        HeardTempo(low_bpm=90, high_bpm=95, duration_s=2 * HOUR_S),
        HeardTempo(low_bpm=95, high_bpm=100, duration_s=HOUR_S),
        HeardTempo(low_bpm=150, high_bpm=155, duration_s=HOUR_S),
        HeardTempo(low_bpm=200, high_bpm=205, duration_s=299),
    ],
    keys=[HeardAmount(name=name, duration_s=HOUR_S) for name in ("C major", "A minor", "E major", "F# major")],
    instruments_known_s=10 * HOUR_S,
    genres_known_s=6 * HOUR_S,
    tempi_known_s=10 * HOUR_S,
    keys_known_s=10 * HOUR_S,
)


def advised(prompt: str, card: ModelCard = CARD) -> list[tuple[str, str, float, list[str]]]:
    return [(a.subject, a.asked, a.heard_s, list(a.near)) for a in advice_of(heard_of(card), asked_of(prompt))]


@pytest.mark.parametrize(
    ("prompt", "advice"),
    [
        ("Rock, piano and drums, 92 BPM, C major", []),
        ("violin", [("instrument", "violin", 260, ["cello"])]),  # of the strings' family, not piano, not drums
        ("flute", []),  # 200 s, and 120 of the base
        ("a theremin", [("instrument", "theremin", 0, [])]),
        ("no violin", []),
        ("bebop", [("genre", "bebop", 0, ["jazz", "swing"])]),  # rock is of another kind
        ("99 BPM", []),  # within 4 %
        ("106 BPM", [("tempo", "106 BPM", 0, ["95 to 100 BPM"])]),  # the bin below ends 10.4 % below it
        ("120 BPM", [("tempo", "120 BPM", 0, [])]),
        ("202 BPM", [("tempo", "202 BPM", 299, [])]),
        ("G major", [("key", "G major", 0, ["C major", "A minor"])]),  # E major is three fifths away
        ("Bb minor", [("key", "Bb minor", 0, ["F# major"])]),  # 1, 3 and 5 fifths
    ],
)
def test_what_was_hardly_heard_is_named_with_what_is_near(
    prompt: str, advice: list[tuple[str, str, float, list[str]]]
) -> None:
    assert advised(prompt) == advice


def test_of_a_small_training_a_share_is_enough() -> None:
    small = ModelCard(
        duration_s=600, instruments_known_s=600,
        instruments=[HeardAmount(name="Violin", duration_s=13), HeardAmount(name="Flute", duration_s=11)],
    )  # fmt: skip
    assert advised("violin", small) == []
    [(_, asked, heard_s, near)] = advised("flute", small)
    assert (asked, heard_s, near) == ("flute", 11, [])


def test_it_says_when_nobody_knows_what_the_base_heard() -> None:
    card = ModelCard()
    card.CopyFrom(CARD)
    for unknown in (False, True):
        card.base_unknown = unknown
        [advice] = advice_of(heard_of(card), asked_of("calm violin, C major"))
        assert advice.base_unknown == unknown


def test_a_subject_that_nobody_labelled_gets_no_advice() -> None:
    unlabelled = ModelCard()
    unlabelled.CopyFrom(CARD)
    unlabelled.genres_known_s = 4 * HOUR_S
    assert advised("bebop", unlabelled) == []
    assert advised("bebop, violin, 120 BPM, G major", ModelCard()) == []


def of_its_own_digest(served: Served, files: ModelFiles, name: str) -> ModelVersion:
    """The same model with its configuration written otherwise: the digest of `tiny` goes on to name one model."""
    document = json.dumps(dict(files.configuration.document), indent=1).encode()
    configuration = served.store.blobs.put_bytes("configurations", document, "json", "application/json")
    return replace(version_of(served.store, files, name), configuration=configuration)


def test_generate_says_it_with_the_audio_also_when_it_was_made_before(served: Served, model_files: ModelFiles) -> None:
    card = served.store.put("model-cards", CARD)
    register(served.store, replace(of_its_own_digest(served, model_files, "carded"), card=card))
    asked = request(model="carded", prompt="calm violin, C major", steps=2)
    first, again = (served.stub.Generate(asked) for _ in range(2))
    for response in (first, again):
        [advice] = response.advice
        assert (advice.subject, advice.asked, advice.heard_s, advice.enough_s) == ("instrument", "violin", 260, 300)
    assert again.action.reused
    [*_, streamed] = [
        event.response
        for event in served.stub.StreamGenerate(pb.StreamGenerateRequest(request=asked))
        if event.HasField("response")
    ]
    assert streamed.advice == first.advice
    [listed] = served.stub.ListModels(pb.ListModelsRequest(name="carded")).models
    assert listed.card == card


def test_a_model_without_a_card_gets_none(served: Served) -> None:
    assert not served.stub.Generate(request(prompt="calm violin", steps=2)).advice
    assert not served.stub.ListModels(pb.ListModelsRequest(name="tiny")).models[0].HasField("card")


@pytest.mark.parametrize("fault", ["no card", "gone"])
def test_a_card_that_is_of_no_use_is_no_error(
    served: Served, model_files: ModelFiles, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    data = b"no JSON" if fault == "no card" else b"{}"
    card = served.store.blobs.put_bytes("model-cards", data, "json")
    version = replace(of_its_own_digest(served, model_files, "bad"), card=card)
    if fault == "gone":
        served.store.objects.delete(card.key)
    cards = Cards(served.store)
    with caplog.at_level(logging.WARNING):
        assert [cards.advice(version, "violin") for _ in range(2)] == [[], []]
    assert len(caplog.records) == 1, "said once"

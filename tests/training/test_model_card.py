"""The card of a model: minutes counted by hand from a data set, and a README that the hub's own reader takes."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from huggingface_hub import ModelCard as HubCard

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetManifest
from luthier.training.v1.model_card_pb2 import HeardAmount, HeardDataset, ModelCard
from luthier.training.v1.training_pb2 import FineTune, LossPoint
from luthier_kit.registry import RANDOM, TRANSFORMER, ModelVersion, register
from luthier_kit.rpc import TRAIN, VALIDATION
from luthier_kit.store import Store
from luthier_training.dataset import rows_of
from luthier_training.model_card import card_of, markdown
from luthier_training.recipes import RECIPES

from .test_fine_tune import TUNE, job

WINDOW_S = 40.0


def clip(song: str = "s", split: str = "train", seconds: float = 30.0, **more: Any) -> dict[str, Any]:
    facts = {"duration_s": seconds, **more.pop("facts", {})}
    tags = [{"text": text, "kind": "genre", "weight": 1} for text in more.pop("genres", ())]
    return {"split": split, "song_fingerprint": song, "facts": facts, "tags": tags, **more}


def tempo(bpm: float, **more: Any) -> dict[str, Any]:
    return {"tempo": {"tempo_bpm": bpm, "source": "FACT_SOURCE_TEMPO_MAP", **more}}


def playing(**shares: float) -> dict[str, Any]:
    return {"instruments": [{"instrument": name.replace("_", " "), "share": share} for name, share in shares.items()]}


def counted(*rows: dict[str, Any], base: ModelCard | None = None) -> ModelCard:
    dataset = ParseDict({"rows": list(rows)}, DatasetManifest())
    return card_of(rows_of(dataset, TRAIN), len(rows_of(dataset, VALIDATION)), WINDOW_S, base or ModelCard())


def seconds(amounts: Any) -> dict[str, float]:
    return {amount.name: amount.duration_s for amount in amounts}


def test_instruments_count_while_they_sound() -> None:
    card = counted(
        clip(facts=playing(Violin=0.5, Drums=1.0)), clip("t", facts=playing(violin=1.0, Theremin=0.1)), clip("u")
    )
    assert seconds(card.instruments) == pytest.approx({"Violin": 45, "Drums": 30, "Theremin": 3})
    assert [amount.name for amount in card.instruments] == ["Violin", "Drums", "Theremin"], "most first"
    assert card.instruments[0].clips == 2
    assert card.instruments_known_s == 60


def test_a_genre_is_also_what_it_is_a_kind_of() -> None:
    card = counted(clip(genres=["bebop"]), clip("t", genres=["jazz", "seen live"]), clip("u"))
    assert seconds(card.genres) == {"jazz": 60, "bebop": 30}
    assert card.genres_known_s == 60


def test_tempi_are_of_clips_that_keep_one_in_beats() -> None:
    card = counted(
        clip(facts=tempo(119.9)), clip(facts=tempo(120)), clip(facts=tempo(124.9)), clip(facts=tempo(90, changes=True)),
        clip(facts=tempo(90, notated=True)), clip(facts={"tempo": {"tempo_bpm": 90}}),
    )  # fmt: skip
    assert [(each.low_bpm, each.high_bpm, each.duration_s, each.clips) for each in card.tempi] == [
        (115, 120, 30, 1),
        (120, 125, 60, 2),
    ]
    assert card.tempi_known_s == 90


def test_keys_are_of_tonic_and_mode() -> None:
    key = {"tonic": "Gb", "mode": "MODE_MINOR", "source": "FACT_SOURCE_NOTES"}
    card = counted(clip(facts={"key": key}), clip(facts={"key": {**key, "mode": "MODE_UNSPECIFIED"}}))
    assert seconds(card.keys) == {"F# minor": 30}


def test_hours_songs_subsets_and_licences_are_of_what_was_trained_on() -> None:
    card = counted(
        clip("s", licences=["CC0-1.0"]),
        clip("s", licences=["CC0-1.0", "CC-BY-4.0"], source={"subset": "monophonic"}),
        clip("t", licences=["unknown"]),
        clip("v", "validation", licences=["secret"]),
        clip("w", "test"),
    )
    assert (card.clips, card.songs, card.duration_s, card.validation_clips) == (3, 2, 90, 1)
    assert seconds(card.subsets) == {"polyphonic": 60, "monophonic": 30}
    assert seconds(card.licences) == {"CC0-1.0": 60, "CC-BY-4.0": 30}
    assert card.unlicensed_clips == 1


def test_what_lies_beyond_the_window_is_not_heard() -> None:
    card = counted(clip(seconds=100.0, facts=playing(Violin=1.0)))
    assert (card.duration_s, seconds(card.instruments)) == (WINDOW_S, {"Violin": WINDOW_S})


def test_what_the_base_heard_is_added_up() -> None:
    base = counted(clip(facts={**playing(Violin=1.0), **tempo(90)}, genres=["jazz"]))
    middle = counted(clip(facts={**playing(Flute=1.0), **tempo(90)}), base=base)
    card = counted(clip(facts=playing(Violin=1.0)), base=middle)
    assert (card.duration_s, card.base_duration_s) == (30, 60)
    assert {(each.name, each.duration_s, each.base_duration_s) for each in card.instruments} == {
        ("Violin", 30, 30),
        ("Flute", 0, 30),
    }
    assert [(each.low_bpm, each.duration_s, each.base_duration_s) for each in card.tempi] == [(90, 0, 60)]
    assert (card.instruments_known_s, card.genres_known_s, card.tempi_known_s) == (90, 30, 60)


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = [clip(str(n), facts={**playing(Violin=n / 9, Flute=1 - n / 9), **tempo(90 + n)}) for n in range(9)]
    shuffled = random.Random(1).sample(rows, len(rows))
    assert counted(*rows) == counted(*shuffled)


@pytest.mark.parametrize(
    ("licences", "base", "of_the_hub"),
    [
        (["CC-BY-4.0"], ["Apache-2.0"], ["apache-2.0", "cc-by-4.0"]),
        (["CC-BY-4.0"], [], "other"),
        (["CC-BY-4.0"], ["stability-ai-community"], "other"),
        ([], [], "unknown"),
    ],
)
def test_the_readme_is_a_card_of_the_hub(licences: list[str], base: list[str], of_the_hub: Any) -> None:
    card = counted(clip(licences=licences, facts=playing(Violin=1.0)))
    card.model_name, card.base_licences[:] = "tuned", base
    read = HubCard(markdown(card))
    said = vars(read.data)
    assert said["license"] == of_the_hub
    assert (said["pipeline_tag"], said["library_name"]) == ("text-to-audio", "stable-audio-tools")
    assert "| Violin | 0.5 | 1 | 0.0 |" in read.text


def test_other_peoples_text_stays_text() -> None:
    card = ModelCard(
        model_name="m", datasets=[HeardDataset(name="<b>d</b>")], base="[x](http://y)",
        licences=[HeardAmount(name="|a|\n---\n# b")], validation=[LossPoint(loss=1)],
    )  # fmt: skip
    text = markdown(card)
    assert "<b>" not in text
    assert "[x](" not in text
    assert "\n# b" not in text


def test_a_run_writes_the_card_of_its_model(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    tune = FineTune(steps=2, **TUNE | {"validate_every": 1, "checkpoint_every": 2})
    asked, own = job(store, dataset_ref, tmp_path / "a", fine_tune=tune)
    version = RECIPES["fine_tune"](asked)
    assert version.card is not None
    card = store.get(ModelCard, version.card)
    assert (card.model_name, card.run_id, card.base) == ("tuned", own.id, "base@1")
    assert [(each.name, each.digest) for each in card.datasets] == [("three", dataset_ref.sha256)]
    assert (card.clips, card.songs, card.validation_clips) == (2, 2, 1)
    assert card.duration_s == pytest.approx(2.0 + 1.6)
    assert seconds(card.instruments) == pytest.approx(
        {"Acoustic Grand Piano": 1.8, "Flute": 1.6, "Drums": 1.0, "Violin": 0.06}
    )
    assert seconds(card.keys) == {"A minor": 2.0}
    assert seconds(card.genres)["jazz"] == 2.0
    assert list(card.validation) == list(own.read().progress.validation)
    assert (card.settings.learning_rate, card.seed, card.steps) == (TUNE["learning_rate"], 4, 2)
    assert card.markdown.startswith("---\nlicense: ")


def test_a_model_that_is_tuned_again_knows_what_its_base_heard(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    tune = FineTune(steps=1, **TUNE | {"validate_every": 1, "checkpoint_every": 1})
    asked, _ = job(store, dataset_ref, tmp_path / "a", "a", fine_tune=tune)
    first = register(store, replace(RECIPES["fine_tune"](asked), name="first"))
    tune.base_model = "first"
    asked, _ = job(store, dataset_ref, tmp_path / "b", "b", fine_tune=tune)
    again = RECIPES["fine_tune"](asked)
    assert again.card is not None
    card = store.get(ModelCard, again.card)
    assert (card.base, card.base_digest) == ("first@1", first.digest)
    assert card.base_duration_s == pytest.approx(3.6)
    assert card.instruments[0].base_duration_s == pytest.approx(1.8)
    assert card.base_unknown, "nobody knows what the base of `first` heard"
    assert "what its base heard before is not recorded" in card.markdown


def test_of_a_random_transformer_it_is_known_what_it_heard(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    notes = {**base.notes, TRANSFORMER: RANDOM}
    register(store, replace(base, name="random", notes=notes, created_at=None, n=0))
    tune = FineTune(steps=1, **TUNE | {"base_model": "random", "validate_every": 1, "checkpoint_every": 1})
    asked, _ = job(store, dataset_ref, tmp_path / "a", "a", fine_tune=tune)
    made = RECIPES["fine_tune"](asked).card
    assert made is not None
    card = store.get(ModelCard, made)
    assert not card.base_unknown
    assert "not recorded" not in card.markdown.partition("## What it heard")[0]

"""Words asked for, the taggers' classes that stand for them, and the taggers' own accuracy."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace

import numpy as np
import pytest

from luthier_evaluation import tags
from luthier_evaluation.embedders import Embedding
from luthier_evaluation.tags import (
    CLASSES,
    GENRES,
    INSTRUMENTS,
    MSD,
    MTT,
    TAGS,
    Heard,
    Kind,
    NotHeard,
    Rates,
    Tag,
    TaggerAccuracy,
    WordAccuracy,
    accuracy_from_json,
    belief,
    genre_heard,
    genre_word,
    instrument_heard,
    instrument_word,
    shipped_accuracy,
    words_computed,
)
from luthier_kit.rpc import InvalidRequest
from luthier_music.instrument_words import PHRASES
from luthier_music.vocabulary import GENRE_WORDS, normalise

GOOD = Rates(hits=18, positives=20, false_alarms=4, negatives=40, area=0.95)
POOR = Rates(hits=10, positives=20, false_alarms=22, negatives=40, area=0.5)
FEW = Rates(hits=9, positives=9, false_alarms=0, negatives=40, area=1.0)
NONE = Rates(hits=0, positives=0, false_alarms=0, negatives=0, area=None)


def embedding(embedder: str, windows: int = 3, **logits: float) -> Embedding:
    """The same logits in each window; -6 for the classes that are not named (of underscores, blanks are meant)."""
    row = np.full(50, -6.0, np.float32)
    for name, value in logits.items():
        row[CLASSES[embedder].index(name.replace("_", " "))] = value
    return Embedding(np.zeros((windows, 200), np.float32), np.tile(row, (windows, 1)))


def known(kind: Kind, word: str, stems: Rates, mixes: Rates, threshold: float = 0.25) -> WordAccuracy:
    tag = TAGS[kind][word]
    return WordAccuracy(kind, word, tag.embedder, tag.classes, threshold, stems, mixes)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> TaggerAccuracy:
    """An accuracy of which every case is there."""
    words = (
        known("genre", "jazz", NONE, GOOD),
        known("genre", "metal", NONE, GOOD),
        known("genre", "pop", NONE, POOR),
        known("instrument", "guitar", GOOD, GOOD),
        known("instrument", "flute", POOR, GOOD),
        known("instrument", "harp", GOOD, FEW),
        known("instrument", "piano", GOOD, POOR),
        known("instrument", "sitar", FEW, NONE),
    )
    accuracy = TaggerAccuracy("2026-11-30", "command", "font.sf2", 60, 6, {MSD: "0" * 64, MTT: "1" * 64}, words)
    monkeypatch.setattr(tags, "shipped_accuracy", lambda: accuracy)
    return accuracy


# The table


def test_every_class_is_one_of_its_tagger() -> None:
    absent = [
        (t.word, name)
        for k in TAGS.values()
        for t in k.values()
        for name in t.classes
        if name not in CLASSES[t.embedder]
    ]

    assert absent == []


def test_every_genre_is_a_word_of_ours() -> None:
    canonical = {normalise(word) for word in GENRE_WORDS.values()}

    assert [word for word in GENRES if normalise(word) not in canonical] == []


def test_every_instrument_is_a_word_of_ours() -> None:
    assert [word for word in INSTRUMENTS if word not in PHRASES] == []


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ("jazz", "jazz"),
        ("Death Metal", "metal"),
        ("progressive rock", "progressive rock"),
        ("deep house", "house"),
        ("psytrance", "electronic"),
        ("baroque", "classical"),
        ("rnb", "R&B"),
        ("hip-hop", "hip hop"),
        ("80s pop", "pop"),
        ("bossa nova", None),
        ("sparkling", None),
        ("", None),
    ],
)
def test_a_genre_is_heard_as_the_most_special_word_that_it_implies(asked: str, word: str | None) -> None:
    assert genre_word(asked) == word


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ("Acoustic Guitar (nylon)", "guitar"),
        ("nylon-string guitar", "guitar"),
        ("Acoustic Grand Piano", "piano"),
        ("pianos", "piano"),
        ("Drums", "drum"),
        ("String Ensemble 1", "strings"),
        ("Cello", "cello"),
        ("Synth Strings 1", "strings"),
        ("keyboards", None),  # pianos, organs and synthesizers
        ("Trumpet", None),
        ("kazoo", None),
        ("", None),
    ],
)
def test_an_instrument_is_heard_as_the_narrowest_word_that_is_true_of_it(asked: str, word: str | None) -> None:
    assert instrument_word(asked) == word


# Hearing


def test_belief_is_the_mean_sigmoid_over_windows_and_classes() -> None:
    tag = Tag("metal", MSD, ("metal", "heavy metal"))
    logits = np.full((2, 50), -50.0, np.float32)
    metal, heavy = (CLASSES[MSD].index(name) for name in tag.classes)
    logits[:, metal], logits[:, heavy] = (math.log(3), math.log(1 / 3)), (0.0, 1000.0)

    # sigmoids 0.75 and 0.25 of the one class, 0.5 and 1 of the other
    assert belief(tag, Embedding(np.zeros((2, 200), np.float32), logits)) == pytest.approx(0.625)


def test_a_genre_is_heard_from_its_threshold_on(measured: TaggerAccuracy) -> None:
    loud, soft = (genre_heard(["jazz"], {MSD: embedding(MSD, jazz=logit)})[0] for logit in (0.0, -2.0))

    assert isinstance(loud, Heard)
    assert isinstance(soft, Heard)
    assert loud.heard
    assert loud.belief == pytest.approx(0.5)
    assert not soft.heard
    assert soft.belief == pytest.approx(1 / (1 + math.exp(2)))


def test_what_was_asked_and_what_stood_for_it_are_both_said(measured: TaggerAccuracy) -> None:
    found = instrument_heard(["Distortion Guitar"], {MTT: embedding(MTT, guitar=3.0)})[0]

    assert isinstance(found, Heard)
    assert (found.asked, found.as_word, found.heard) == ("Distortion Guitar", "guitar", True)
    assert found.accuracy.mixes == GOOD


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("pop", "does not hear pop in rendered music: balanced accuracy 0.475 on 60 clips"),
        ("reggae", "no class of the taggers means this genre"),
        ("funk", "too few rendered clips"),
        ("metal", "whose weights are not here"),
    ],
)
def test_a_genre_that_is_not_computed_says_why(word: str, why: str, measured: TaggerAccuracy) -> None:
    found = genre_heard([word], {})[0]

    assert isinstance(found, NotHeard)
    assert why in found.reason


def test_the_worse_of_stems_and_mixes_decides_where_there_are_enough(measured: TaggerAccuracy) -> None:
    assert list(words_computed("instrument", measured)) == ["guitar", "harp"]


def test_an_embedding_of_another_tagger_is_refused(measured: TaggerAccuracy) -> None:
    other = Embedding(np.zeros((1, 200), np.float32), np.zeros((1, 10), np.float32))

    with pytest.raises(InvalidRequest, match=r"logits \(windows, 50\)"):
        genre_heard(["jazz"], {MSD: other})


# The accuracy


def test_balanced_accuracy_is_the_mean_of_both_rates() -> None:
    assert (GOOD.hit_rate, GOOD.false_alarm_rate) == (0.9, 0.1)
    assert GOOD.balanced_accuracy == pytest.approx(0.9)
    assert NONE.balanced_accuracy is None


def test_what_was_measured_is_read_as_it_was_written(measured: TaggerAccuracy) -> None:
    assert accuracy_from_json(json.dumps(asdict(measured))) == measured


def test_what_was_measured_of_other_classes_is_not_taken(measured: TaggerAccuracy) -> None:
    other = replace(measured, words=tuple(replace(word, classes=("rock",)) for word in measured.words))

    assert other.of("genre", "jazz") is None


def test_the_accuracy_that_ships_is_of_every_word_of_the_table() -> None:
    shipped = shipped_accuracy()

    assert [word for kind, words in TAGS.items() for word in words if shipped.of(kind, word) is None] == []
    assert shipped.soundfont
    assert shipped.clips > 500


def test_what_ships_was_measured_with_the_weights_that_conversion_makes(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    from luthier_evaluation.conversion.__main__ import main as convert

    made: dict[str, str] = {}
    for name in (MSD, MTT):
        convert([name, "--out", str(tmp_path_factory.mktemp("weights")), "--json"])
        made[name] = json.loads(capsys.readouterr().out)["sha256"]

    assert dict(shipped_accuracy().weights) == made


def test_a_word_is_computed_only_where_the_tagger_is_mostly_right() -> None:
    shipped = shipped_accuracy()
    rates: Mapping[str, Rates] = {
        word: found.rates
        for kind in TAGS
        for word in words_computed(kind, shipped)
        if (found := shipped.of(kind, word))
    }

    assert rates
    assert all(
        (one.balanced_accuracy or 0) >= 0.7 and min(one.positives, one.negatives) >= 10 for one in rates.values()
    )

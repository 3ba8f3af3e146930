"""The grammar composer: deterministic, varied, and true by the checker for every instrument, key, genre and mood."""

import itertools
import random
from dataclasses import replace

import pytest

from luthier_music.captions import check
from luthier_music.clip_facts import Facts, Heard
from luthier_music.composing import Composed, Grammar, Style, compose
from luthier_music.grammar import MAX_SHORT_WORDS
from luthier_music.instruments import DRUMS, PROGRAM_NAMES
from luthier_music.metadata import draw_metadata
from luthier_music.vocabulary import GENRE_PARENTS, MOOD_WORDS

FULL = Facts(
    duration_s=30.0, tempo_bpm=96.0, tonic="D", mode="major", meter=(4, 4), onset_rate_hz=4.0,
    instruments=(Heard("Fiddle"), Heard("Banjo"), Heard(DRUMS)), genres=("country",), moods=("warm", "gentle"),
)  # fmt: skip


STYLES = tuple(Style)


def composed(facts: Facts, count: int, style: Style, seed: int) -> Composed:
    return compose(Grammar(), facts, count=count, seed=seed, styles=[style])


def texts(facts: Facts, count: int = 16, style: Style = Style.SENTENCE, seed: int = 1) -> list[str]:
    return [p.text for p in composed(facts, count, style, seed).prompts]


def test_the_seed_decides() -> None:
    assert texts(FULL) == texts(FULL)
    assert texts(FULL) != texts(FULL, seed=2)


def test_all_64_bits_of_a_seed_count() -> None:
    assert len({tuple(texts(FULL, seed=seed)) for seed in (1, 2**32 + 1, 2**53 + 1, 2**64 - 1)}) == 4


@pytest.mark.parametrize("style", STYLES)
def test_prompts_are_distinct(style: Style) -> None:
    assert len(set(texts(FULL, style=style))) == 16


def test_a_short_prompt_is_short_and_names_genre_and_instrument() -> None:
    for text in texts(FULL, style=Style.SHORT):
        assert len(text.split()) <= MAX_SHORT_WORDS
        assert "country" in text.lower()
        assert any(word in text for word in ("fiddle", "banjo", "drums"))


def test_tags_are_the_facts_one_by_one_and_nothing_else() -> None:
    wanted = ["96 bpm", "banjo", "country", "d major", "drums", "fiddle", "gentle", "moderate energy", "warm"]
    made = texts(FULL, style=Style.TAGS)
    assert all(sorted(text.lower().split(", ")) == wanted for text in made)


def test_metadata_is_another_subset_each_time() -> None:
    fields = [text.lower().count(":") for seed in range(10) for text in texts(FULL, style=Style.METADATA, seed=seed)]
    assert {3, 4, 5, 6} <= set(fields)
    assert max(fields) == 6  # genre, moods, instruments, tempo, key, energy


def test_lists_of_metadata_are_shuffled() -> None:
    facts = Facts(genres=("rock", "jazz", "folk"))
    made = {text.lower().removeprefix("genre: ") for text in texts(facts, style=Style.METADATA)}
    assert len(made & {", ".join(order) for order in itertools.permutations(facts.genres)}) >= 4


@pytest.mark.parametrize("style", [Style.TAGS, Style.METADATA])
def test_where_a_list_has_nothing_to_hold_a_sentence_is_written(style: Style) -> None:
    done = composed(Facts(meter=(6, 8)), 4, style, 1)
    assert [p.disagreements for p in done.prompts] == [()] * 4
    assert all(p.text.endswith(".") for p in done.prompts)


def test_drawn_metadata_are_true_by_the_checker_whatever_is_known() -> None:
    """Training draws them unchecked."""
    rng = random.Random(7)
    genres, moods = sorted(GENRE_PARENTS), sorted(set(MOOD_WORDS.values()))
    for _ in range(400):
        facts = Facts(
            tempo_bpm=rng.choice([None, 93.0, 140.4]),
            tempo_changes=rng.random() < 0.2,
            tonic=rng.choice([None, "F#", "Bb", "A"]),
            mode=rng.choice([None, "major", "minor"]),
            instruments=tuple(
                Heard(name, rng.random()) for name in rng.sample([DRUMS, *PROGRAM_NAMES], rng.randrange(8))
            ),
            genres=tuple(rng.sample(genres, rng.randrange(4))),
            moods=tuple(rng.sample(moods, rng.randrange(4))),
            eras=rng.choice([(), ("1980s",)]),
            onset_rate_hz=rng.choice([None, 1.0, 4.0, 8.0]),
        )
        text = draw_metadata(facts, rng)
        assert not text or not check(text, facts, allow_subset=True), text


def test_styles_come_by_turns() -> None:
    turns = [Style.TAGS, Style.SENTENCE]
    prompts = compose(Grammar(), FULL, count=4, seed=1, styles=turns).prompts
    assert [p.text.endswith(".") for p in prompts] == [False, True, False, True]
    assert [p.composer_version.partition("/")[0] for p in prompts[::2]] == ["tags", "tags"]


def test_sentences_read_as_sentences() -> None:
    for text in texts(FULL):
        assert text.endswith(".")
        assert text[0].isupper()
        assert "  " not in text


def test_metadata_comes_with_and_without_type_names() -> None:
    many = [t for seed in range(20) for t in texts(FULL, style=Style.METADATA, seed=seed)]
    assert any("genre:" in text.lower() and "|" in text for text in many)
    assert any("|" not in text and ":" not in text for text in many)
    assert any(text.isupper() for text in many)
    assert any(text.islower() for text in many)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", [DRUMS, *PROGRAM_NAMES])
def test_one_part_alone_is_said_to_be_alone_and_passes(name: str, style: Style) -> None:
    facts = Facts(tempo_bpm=92.0, tonic="D", mode="minor", instruments=(Heard(name),), genres=("jazz",), solo=True)
    done = composed(facts, 8, style, 3)
    alone = [any(word in p.text.lower() for word in ("solo", "alone", "unaccompanied")) for p in done.prompts]
    assert [p.disagreements for p in done.prompts] == [()] * 8
    assert any(alone) if style == Style.METADATA else all(alone)
    mix = replace(facts, solo=False)
    assert all(check(p.text, mix) for p, said in zip(done.prompts, alone, strict=True) if said)


def test_a_section_is_no_soloist() -> None:
    strings = Facts(instruments=(Heard("String Ensemble 1"),), solo=True)
    assert not any("solo" in text for seed in range(4) for text in texts(strings, seed=seed))


def test_attributes_change_places() -> None:
    positions = {text.lower().find("d major") < text.lower().find("fiddle") for text in texts(FULL)}
    assert positions == {True, False}


@pytest.mark.parametrize("style", STYLES)
def test_notated_tempo_names_its_note_value_and_a_changing_meter_is_no_meter(style: Style) -> None:
    facts = Facts(
        tempo_bpm=140.0,
        beat_quarters=1.0,
        notated=True,
        meter=(3, 4),
        meter_changes=True,
        instruments=(Heard("Flute"),),
    )
    for seed in range(5):
        for prompt in composed(facts, 16, style, seed).prompts:
            assert not prompt.disagreements
            assert "bpm" not in prompt.text.lower()
            assert "3/4" not in prompt.text
            assert style is not Style.SENTENCE or (
                "140 quarter notes per minute" in prompt.text and "changing meter" in prompt.text
            )


def test_the_unknown_is_left_out() -> None:
    for text in texts(Facts(instruments=(Heard("Flute"),))):
        assert not any(word in text for word in ("BPM", "minor", "major", "tempo", "None", "0"))


@pytest.mark.parametrize("name", [*PROGRAM_NAMES, DRUMS])
def test_every_instrument_is_named_so_that_the_checker_knows_it(name: str) -> None:
    facts = Facts(instruments=(Heard(name),))
    for style in STYLES:
        made = composed(facts, 4, style, 3)
        assert [p.disagreements for p in made.prompts] == [()] * 4
        assert made.rejected_drafts == 0


@pytest.mark.parametrize("genre", GENRE_PARENTS)
def test_every_genre_is_true_of_itself(genre: str) -> None:
    assert check(f"A {genre} piece", Facts(genres=(genre,))) == []


@pytest.mark.parametrize("mood", sorted(set(MOOD_WORDS.values())))
def test_every_mood_is_true_of_itself(mood: str) -> None:
    assert check(f"A {mood} piece", Facts(moods=(mood,))) == []


@pytest.mark.parametrize(
    ("genre", "words"),
    [("eurodance", "a eurodance"), ("uk hip hop", "a uk hip hop"), ("mpb", "an mpb"), ("r&b", "an r&b"),
     ("indie rock", "an indie rock"), ("doo wop", "a doo-wop"), ("hi nrg", "a hi-nrg"), ("aor", "an aor")],
)  # fmt: skip
def test_a_genre_is_written_with_the_article_of_its_sound(genre: str, words: str) -> None:
    made = texts(Facts(genres=(genre,), instruments=(Heard("Tenor Sax"),)))
    assert any(f"{words} " in text.lower() for text in made)


@pytest.mark.parametrize(
    ("mood", "genre"),
    [("smooth", "jazz"), ("psychedelic", "rock"), ("dark", "ambient"), ("happy", "hardcore"), ("epic", "metal")],
)
def test_a_mood_and_a_genre_do_not_make_another_genre(mood: str, genre: str) -> None:
    facts = Facts(genres=(genre,), moods=(mood,), instruments=(Heard("Tenor Sax"),))
    made = composed(facts, 8, Style.SENTENCE, 1)
    assert not any(prompt.disagreements for prompt in made.prompts)
    assert all(f"{mood} {genre}" not in prompt.text.lower() for prompt in made.prompts)
    assert made.rejected_drafts == 0


def test_drafts_of_random_facts_are_all_true() -> None:
    rng = random.Random(7)
    for _ in range(150):
        facts = random_facts(rng)
        for style in STYLES:
            made = composed(facts, 3, style, rng.randrange(2**32))
            assert made.rejected_drafts == 0, [p for p in made.prompts if p.disagreements] or made
            assert not any(p.disagreements for p in made.prompts), (facts, made.prompts)


def test_of_other_facts_the_same_sentences_are_false() -> None:
    rng = random.Random(8)
    for _ in range(100):
        facts = random_facts(rng)
        (text,) = texts(facts, count=1)
        other = Facts(tempo_bpm=facts.tempo_bpm + 1 if facts.tempo_bpm else None, instruments=(Heard("Agogo"),))
        assert check(text, other, allow_subset=True)


def random_facts(rng: random.Random) -> Facts:
    tempo = rng.choice([None, float(rng.randint(40, 220)), round(rng.uniform(40, 220), 2)])
    tonic = rng.choice([None, *["C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"]])
    names = rng.sample([*PROGRAM_NAMES, DRUMS], rng.randint(1, 7))
    return Facts(
        duration_s=30.0,
        tempo_bpm=tempo,
        tempo_changes=tempo is not None and rng.random() < 0.2,
        tonic=tonic,
        mode=rng.choice(["major", "minor"]) if tonic else None,
        instruments=tuple(Heard(name, rng.random()) for name in names),
        meter=rng.choice([None, (4, 4), (3, 4), (6, 8), (7, 8)]),
        onset_rate_hz=rng.choice([None, 1.0, 4.0, 8.0]),
        genres=tuple(rng.sample(sorted(GENRE_PARENTS), rng.randint(0, 2))),
        moods=tuple(rng.sample(sorted(set(MOOD_WORDS.values())), rng.randint(0, 3))),
        eras=rng.choice([(), ("1980s",), ("1960s",)]),
    )

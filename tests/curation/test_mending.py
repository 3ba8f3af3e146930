"""Mending: prompts say what a person corrected, in the style they had; what a person wrote is kept and checked."""

import pytest

from luthier.common.v1 import common_pb2 as common
from luthier_curation.clips import instruments_by_person, key_by_person
from luthier_curation.curation import Curation
from luthier_curation.mending import mended
from luthier_curation.reviews import Edit
from luthier_kit.rpc import InvalidRequest
from luthier_music.captions import check
from luthier_music.clip_facts import facts_of

from .builders import clip

GRAMMAR = "5"
STYLES = (GRAMMAR, f"short/{GRAMMAR}", f"tags/{GRAMMAR}", f"metadata/{GRAMMAR}")


@pytest.fixture
def name(curation: Curation) -> str:
    """A clip with a prompt of each style that states 120 BPM and C major."""
    new = clip(curation.store, prompts=("one", "two", "three", "four"))
    for prompt, version in zip(new.prompts, STYLES, strict=True):
        prompt.composer_version = version
    return curation.upsert("demo", [new])[0][0]


EDITS = {
    "tempo": (Edit(tempo=common.TempoFact(tempo_bpm=97)), "97", "120"),
    "key": (Edit(key=key_by_person(common.KeyFact(tonic="F#", mode=common.MODE_MINOR))), "f# minor", "c major"),
    "instruments": (Edit(instruments=instruments_by_person([("Cello", 0.9)])), "cello", "piano"),
    "genre": (Edit(tags=[("tango", "genre")]), "tango", "rock"),
}


@pytest.mark.parametrize("what", EDITS)
def test_a_correction_is_in_every_prompt_that_states_all(curation: Curation, name: str, what: str) -> None:
    edit, now, before = EDITS[what]
    row, _ = curation.edit(name, 1, "Ada", edit)
    full = [prompt.text.lower().replace(" sharp", "#").replace("-sharp", "#") for prompt in row.prompts[0:3:2]]
    assert all(now in text for text in full), "a sentence and a list of tags state all that is known"
    assert not any(before in prompt.text.lower() for prompt in row.prompts)


def test_styles_and_their_order_are_kept(curation: Curation, name: str) -> None:
    row, _ = curation.edit(name, 1, "Ada", EDITS["tempo"][0])
    assert [prompt.composer_version for prompt in row.prompts] == list(STYLES)
    assert {prompt.composer for prompt in row.prompts} == {"grammar"}
    assert len(row.prompts[1].text.split()) <= 16


def test_what_was_written_anew_is_true_by_the_checker_that_prompting_has(curation: Curation, name: str) -> None:
    for edit, _, _ in EDITS.values():
        row, _ = curation.edit(name, curation.clip(name).revision, "Ada", edit)
    facts = facts_of(row.facts, row.tags)
    assert [check(prompt.text, facts, allow_subset=True) for prompt in row.prompts] == [[]] * 4
    assert row.checked


def test_the_same_correction_gives_the_same_words(curation: Curation, name: str) -> None:
    row = curation.clip(name)
    first, second = (mended(name, row.prompts, row.facts, row.tags) for _ in range(2))
    assert first == second


def test_a_language_models_sentence_is_written_by_the_grammar_and_says_so(curation: Curation) -> None:
    new = clip(curation.store)
    new.prompts[0].composer = "vllm"
    [name] = curation.upsert("demo", [new])[0]
    row, _ = curation.edit(name, 1, "Ada", EDITS["tempo"][0])
    assert (row.prompts[0].composer, "97" in row.prompts[0].text) == ("grammar", True)


def test_a_persons_words_are_kept_with_what_disagrees(curation: Curation, name: str) -> None:
    row, _ = curation.edit(name, 1, "Ada", Edit(prompts=["A tango in D minor at 90 BPM"]))
    [prompt] = row.prompts
    assert (prompt.text, prompt.composer, prompt.check.passed) == ("A tango in D minor at 90 BPM", "person", False)
    found = {(one.subject, one.stated) for one in prompt.check.disagreements}
    assert {subject for subject, _ in found} >= {"tempo", "key", "genre"}
    assert not row.checked
    assert [each.check for each in curation.clip(name).prompts] == [prompt.check], "it is stored"


def test_a_persons_words_that_are_true_pass_though_they_do_not_say_all(curation: Curation, name: str) -> None:
    row, _ = curation.edit(name, 1, "Ada", Edit(prompts=["A song in C major"]))
    assert row.prompts[0].check == common.PromptCheck(passed=True, checker=row.prompts[0].check.checker)


def test_a_correction_of_the_facts_can_make_a_persons_words_true(curation: Curation, name: str) -> None:
    curation.edit(name, 1, "Ada", Edit(prompts=["A song at 97 BPM"]))
    row, _ = curation.edit(name, 2, "Ada", EDITS["tempo"][0])
    assert (row.prompts[0].text, row.prompts[0].check.passed) == ("A song at 97 BPM", True)


def test_both_at_once_keep_the_persons_words_and_mend_the_others(curation: Curation, name: str) -> None:
    row, _ = curation.edit(name, 1, "Ada", Edit(prompts=["Mine", "one"], tempo=common.TempoFact(tempo_bpm=97)))
    assert row.prompts[0].text == "Mine"
    assert "97" in row.prompts[1].text


def test_tags_that_were_there_keep_source_and_weight(curation: Curation, name: str) -> None:
    [rock] = curation.clip(name).tags
    row, _ = curation.edit(name, 1, "Ada", Edit(tags=[("rock", "genre"), (" Sad ", "mood"), ("sad", "mood")]))
    assert row.tags == [rock, common.Tag(text="sad", kind="mood", weight=1.0, source="person")]
    assert row.edited_fields == ["tags"]
    assert any("sad" in prompt.text.lower() for prompt in row.prompts)


@pytest.mark.parametrize(
    ("tags", "field"),
    [
        ([("", "genre")], "tags[0].text"),
        ([("x" * 65, "genre")], "tags[0].text"),
        ([("a\x00", "genre")], "tags[0].text"),
        ([("rock", "colour")], "tags[0].kind"),
        ([(f"t{number}", "mood") for number in range(257)], "tags"),
    ],
)
def test_bad_tags_are_refused_by_field(curation: Curation, name: str, tags: list[tuple[str, str]], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        curation.edit(name, 1, "Ada", Edit(tags=tags))
    assert refused.value.violations[0][0] == field


def test_facts_that_say_nothing_leave_the_prompts_as_they_are(curation: Curation) -> None:
    empty = common.ClipFacts(duration_s=2)
    prompt = common.Prompt(text="A song at 120 BPM", composer="grammar")
    [found] = mended("clip", [prompt], empty, [])
    assert (found.text, found.check.passed) == ("A song at 120 BPM", False)

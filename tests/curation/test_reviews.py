"""Edits and verdicts: expected revisions, rules that never overrule people, undo."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1.curation_pb2 import ClipFilter
from luthier_curation.curation import Curation
from luthier_curation.reviews import Edit
from luthier_curation.tables import ACCEPTED, OPEN, REJECTED
from luthier_curation.verdicts import Decision
from luthier_kit.rpc import Aborted, FailedPrecondition, InvalidRequest, NotFound

from .builders import PROMPT, clip

DEMO = ClipFilter(collection="demo")
RULE = Decision(ACCEPTED, "accept checked", automatic=True)


@pytest.fixture
def ids(curation: Curation) -> list[str]:
    """Four clips; the prompts of the last did not pass their check."""
    clips = [clip(curation.store, song=song, passed=song != 3) for song in range(4)]
    return curation.upsert("demo", clips)[0]


def test_of_sixteen_editors_who_saw_the_same_revision_exactly_one_wins(curation: Curation, ids: list[str]) -> None:
    together = threading.Barrier(16)

    def edit(number: int) -> bool:
        together.wait()
        try:
            curation.edit(ids[0], 1, f"editor {number}", Edit(prompts=[f"prompt {number}"]))
        except Aborted:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(edit, range(16)))
    assert won.count(True) == 1
    row = curation.clip(ids[0])
    assert row.prompts[0].text == f"prompt {won.index(True)}"
    assert row.revision == 2
    assert len(curation.history(ids[0])) == 2


def test_a_stale_edit_is_aborted_and_says_which_revision_there_is(curation: Curation, ids: list[str]) -> None:
    curation.edit(ids[0], 1, "Ada", Edit(prompts=["first"]))
    with pytest.raises(Aborted) as stale:
        curation.edit(ids[0], 1, "Bob", Edit(prompts=["second"]))
    assert stale.value.reason == "REVISION_MISMATCH"
    assert stale.value.metadata["revision"] == "2"


def test_an_edit_that_says_what_is_there_already_is_no_revision(curation: Curation, ids: list[str]) -> None:
    row, batch = curation.edit(ids[0], 1, "Ada", Edit(prompts=[PROMPT]))
    assert (row.revision, row.edited_fields, batch) == (1, [], "")


def test_a_persons_prompt_comes_first_and_the_machines_keep_their_checks(curation: Curation, ids: list[str]) -> None:
    row, _ = curation.edit(ids[0], 1, "Ada", Edit(prompts=[PROMPT, "By hand"]))
    assert [(prompt.text, prompt.composer) for prompt in row.prompts] == [
        ("By hand", "person"),
        (PROMPT, "grammar"),
    ]
    assert row.prompts[1].check == common.PromptCheck(passed=True)


def test_corrected_facts_are_in_the_prompts_at_once(curation: Curation, ids: list[str]) -> None:
    row, batch = curation.edit(ids[0], 1, "Ada", Edit(tempo=common.TempoFact(tempo_bpm=60.0)))
    assert "60" in row.prompts[0].text
    assert row.checked
    curation.undo(batch, "Ada")
    assert curation.clip(ids[0]).prompts[0].text == PROMPT


def test_what_was_done_to_a_clip_is_undone_one_after_the_other(curation: Curation, ids: list[str]) -> None:
    before = curation.clip(ids[0])
    edited = curation.edit(ids[0], 1, "Ada", Edit(prompts=["By hand"]))[1]
    judged = curation.review({ids[0]: 2}, Decision(ACCEPTED, "Ada")).batch_id
    noted = curation.edit(ids[0], 3, "Ada", Edit(remark="note"))[1]
    for batch in (noted, judged, edited):
        assert curation.undo(batch, "Ada")[1] == [ids[0]]
    after = curation.clip(ids[0])
    assert (after.prompts, after.verdict, after.remark, after.edited_fields) == (before.prompts, OPEN, "", [])


def test_what_others_changed_meanwhile_is_not_undone_under_them(curation: Curation, ids: list[str]) -> None:
    judged = curation.review({ids[0]: 1}, Decision(ACCEPTED, "Ada")).batch_id
    curation.edit(ids[0], 2, "Bob", Edit(prompts=["Bob's"]))
    assert curation.undo(judged, "Ada")[1] == []
    assert curation.clip(ids[0]).verdict == ACCEPTED


HEARD_BY_DETECTORS = common.VoiceFact(speech_share=0.14, speech_estimator="silero", vocals_share=0.01)


@pytest.mark.parametrize("stated", common.VoicePresence.values())
def test_what_a_person_says_of_a_voice_stays_beside_what_detectors_heard(
    curation: Curation, stated: common.VoicePresence
) -> None:
    recorded = clip(curation.store, song="recorded")
    recorded.facts.voice.CopyFrom(HEARD_BY_DETECTORS)
    [name] = curation.upsert("demo", [recorded])[0]
    row, _ = curation.edit(name, 1, "Ada", Edit(voice=stated))
    voice = row.facts.voice
    assert (voice.presence, voice.source) == (stated, common.FACT_SOURCE_PERSON)
    assert (voice.speech_share, voice.speech_estimator, voice.vocals_share) == (0.14, "silero", 0.01)
    assert row.edited_fields == ["facts.voice"]


def test_detectors_never_overrule_a_person(curation: Curation) -> None:
    recorded = clip(curation.store, song="recorded")
    recorded.facts.voice.CopyFrom(HEARD_BY_DETECTORS)
    [name] = curation.upsert("demo", [recorded])[0]
    curation.edit(name, 1, "Ada", Edit(voice=common.VOICE_PRESENCE_NONE))
    recorded.facts.voice.presence, recorded.facts.voice.source = common.VOICE_PRESENCE_HEARD, common.FACT_SOURCE_AUDIO
    curation.upsert("demo", [recorded])
    voice = curation.clip(name).facts.voice
    assert (voice.presence, voice.source) == (common.VOICE_PRESENCE_NONE, common.FACT_SOURCE_PERSON)


def measured(
    tempo_bpm: float, source: common.FactSource = common.FACT_SOURCE_TEMPO_MAP, **more: Any
) -> common.TempoFact:
    return common.TempoFact(tempo_bpm=tempo_bpm, source=source, **more)


def by_person(tempo_bpm: float, **more: Any) -> common.TempoFact:
    return common.TempoFact(tempo_bpm=tempo_bpm, source=common.FACT_SOURCE_PERSON, **more)


@pytest.mark.parametrize(
    ("before", "stated", "after"),
    [
        # the number alone: it counts what the clip's number counted
        (measured(120, beat_quarters=1.5), {"tempo_bpm": 121}, by_person(121, beat_quarters=1.5)),  # 6/8
        (measured(180, notated=True), {"tempo_bpm": 180}, by_person(180, notated=True, beat_quarters=1)),  # 7/8
        (measured(180, notated=True), {"tempo_bpm": 181}, by_person(181, notated=True, beat_quarters=1)),
        (measured(120), {"tempo_bpm": 121}, by_person(121, beat_quarters=1)),
        (measured(120, common.FACT_SOURCE_AUDIO, estimator="e", confidence=0.5), {"tempo_bpm": 121}, by_person(121)),
        (by_person(120, beat_quarters=1.5), {"tempo_bpm": 121}, by_person(121, beat_quarters=1.5)),
        (by_person(120), {"tempo_bpm": 121}, by_person(121)),
        (common.TempoFact(), {"tempo_bpm": 121}, by_person(121)),
        # with what it counts
        (measured(180, notated=True), {"tempo_bpm": 120, "beat_quarters": 1.5}, by_person(120, beat_quarters=1.5)),
        (
            measured(120, beat_quarters=1.5), {"tempo_bpm": 180, "notated": True},
            by_person(180, notated=True, beat_quarters=1),
        ),
        (
            measured(118, changes=True), {"tempo_bpm": 118, "changes": True},
            by_person(118, changes=True, beat_quarters=1),
        ),
        (measured(120, beat_quarters=1.5), {"tempo_bpm": 0}, by_person(0)),
    ],
)  # fmt: skip
def test_what_the_number_of_a_persons_tempo_counts(
    curation: Curation, before: common.TempoFact, stated: dict[str, Any], after: common.TempoFact
) -> None:
    [name] = curation.upsert("demo", [clip(curation.store, song="tempo", tempo=before)])[0]
    row, _ = curation.edit(name, 1, "Ada", Edit(tempo=common.TempoFact(**stated)))
    assert row.facts.tempo == after


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (Edit(prompts=[]), "prompts"),
        (Edit(prompts=[" "]), "prompts[0]"),
        (Edit(prompts=["x" * 2001]), "prompts[0]"),
        (Edit(prompts=["nul \x00"]), "prompts[0]"),
        (Edit(prompts=["x"] * 17), "prompts"),
        (Edit(instruments=[common.InstrumentFact(instrument="Kazoo")]), "instruments[0].instrument"),
        (Edit(instruments=[common.InstrumentFact(instrument="Cello", share=float("nan"))]), "instruments[0].share"),
        (Edit(tempo=common.TempoFact(tempo_bpm=1e9)), "tempo.tempo_bpm"),
        (Edit(tempo=common.TempoFact(tempo_bpm=120, beat_quarters=9)), "tempo.beat_quarters"),
        (Edit(tempo=common.TempoFact(tempo_bpm=120, beat_quarters=float("nan"))), "tempo.beat_quarters"),
        (Edit(key=common.KeyFact(tonic="H", mode=common.MODE_MAJOR)), "key.tonic"),
        (Edit(voice=9), "voice"),  # type: ignore[arg-type]
        (Edit(remark="x" * 2001), "remark"),
    ],
)
def test_a_bad_edit_is_refused_by_field(curation: Curation, ids: list[str], edit: Edit, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        curation.edit(ids[0], 1, "Ada", edit)
    assert field in [name for name, _ in refused.value.violations]
    assert curation.clip(ids[0]).revision == 1


def test_who_changes_something_has_a_name(curation: Curation, ids: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="reviewer"):
        curation.edit(ids[0], 1, "  ", Edit(prompts=["x"]))


def test_accept_checked_takes_the_clips_whose_prompts_passed(curation: Curation, ids: list[str]) -> None:
    done = curation.review_all(ClipFilter(collection="demo", checked=True), RULE)
    assert (done.changed, done.unchanged) == (3, 0)
    row = curation.clip(ids[0])
    assert (row.verdict, row.reviewer, row.automatic) == (ACCEPTED, "accept checked", True)
    assert curation.clip(ids[3]).verdict == OPEN


def test_a_rule_never_overrules_a_person(curation: Curation, ids: list[str]) -> None:
    curation.review({ids[0]: 1}, Decision(REJECTED, "Ada"))
    assert curation.review_all(DEMO, RULE).changed == 3
    assert curation.clip(ids[0]).verdict == REJECTED


def test_a_person_confirms_what_a_rule_decided(curation: Curation, ids: list[str]) -> None:
    curation.review_all(DEMO, RULE)
    assert curation.review({ids[0]: 2}, Decision(ACCEPTED, "Ada")).changed == 1
    row = curation.clip(ids[0])
    assert (row.reviewer, row.automatic) == ("Ada", False)


def test_the_same_verdict_again_changes_nothing(curation: Curation, ids: list[str]) -> None:
    curation.review_all(DEMO, Decision(ACCEPTED, "Ada"))
    done = curation.review_all(DEMO, Decision(ACCEPTED, "Bob"))
    assert (done.changed, done.unchanged) == (0, 4)


def test_of_clips_seen_in_an_old_revision_none_is_decided(curation: Curation, ids: list[str]) -> None:
    curation.edit(ids[1], 1, "Bob", Edit(remark="louder than the others"))
    with pytest.raises(Aborted):
        curation.review({ids[0]: 1, ids[1]: 1}, Decision(ACCEPTED, "Ada"))
    assert curation.clip(ids[0]).verdict == OPEN


def test_an_unknown_clip_is_not_found(curation: Curation) -> None:
    with pytest.raises(NotFound, match="clip-0"):
        curation.review({"clip-0": 0}, Decision(ACCEPTED, "Ada"))


def test_a_filter_without_a_collection_decides_nothing(curation: Curation) -> None:
    with pytest.raises(InvalidRequest, match=r"filter\.collection"):
        curation.review_all(ClipFilter(), Decision(ACCEPTED, "Ada"))


def test_undo_takes_back_a_whole_batch(curation: Curation, ids: list[str]) -> None:
    done = curation.review_all(DEMO, Decision(REJECTED, "Ada"))
    undone, _ = curation.undo(done.batch_id, "Ada")
    assert undone.changed == 4
    assert {curation.clip(name).verdict for name in ids} == {OPEN}
    assert curation.history(ids[0])[0].kind == "undone"


def test_undo_can_be_undone(curation: Curation, ids: list[str]) -> None:
    done = curation.review_all(DEMO, Decision(REJECTED, "Ada"))
    undone, _ = curation.undo(done.batch_id, "Ada")
    curation.undo(undone.batch_id, "Ada")
    assert {curation.clip(name).verdict for name in ids} == {REJECTED}


def test_undo_of_an_edit_forgets_that_the_field_was_edited(curation: Curation, ids: list[str]) -> None:
    _, batch = curation.edit(ids[0], 1, "Ada", Edit(prompts=["By hand"]))
    curation.undo(batch, "Ada")
    row = curation.clip(ids[0])
    assert (row.prompts[0].text, row.edited_fields, row.checked) == (PROMPT, [], True)


def test_undo_leaves_what_was_changed_since(curation: Curation, ids: list[str]) -> None:
    done = curation.review_all(DEMO, Decision(REJECTED, "Ada"))
    curation.review({ids[0]: 2}, Decision(ACCEPTED, "Bob"))
    undone, taken_back = curation.undo(done.batch_id, "Ada")
    assert (undone.changed, undone.unchanged) == (3, 1)
    assert ids[0] not in taken_back
    assert curation.clip(ids[0]).verdict == ACCEPTED


def test_what_the_pipeline_did_is_not_undone(curation: Curation, ids: list[str]) -> None:
    with pytest.raises(FailedPrecondition):
        curation.undo(curation.history(ids[0])[0].batch_id, "Ada")


def test_an_unknown_batch_is_not_found(curation: Curation) -> None:
    with pytest.raises(NotFound):
        curation.undo("nothing", "Ada")

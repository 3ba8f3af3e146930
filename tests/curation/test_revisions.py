"""Upserts: identity, idempotence, and a new render under a person's edits."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation.clips import Identity
from luthier_curation.curation import Curation
from luthier_curation.reviews import Edit
from luthier_curation.tables import ACCEPTED, OPEN
from luthier_curation.verdicts import Decision
from luthier_kit.rpc import InvalidRequest, NotFound

from .builders import PROMPT, clip, fingerprint

CELLO = [common.InstrumentFact(instrument="Cello", family="Strings", share=1.0)]


def one(curation: Curation, new: pb.NewClip, collection: str = "demo") -> str:
    ids, *_ = curation.upsert(collection, [new])
    return ids[0]


def test_a_clip_is_one_by_collection_song_and_span(curation: Curation) -> None:
    first = clip(curation.store)
    other_span = clip(curation.store, start_s=30.0)
    other_song = clip(curation.store, song=2)
    ids, outcomes, _ = curation.upsert("demo", [first, other_span, other_song])
    again, *_ = curation.upsert("other", [first])
    assert len({*ids, *again}) == 4
    assert outcomes == {"created": 3}
    assert ids[1] == Identity("demo", fingerprint(1), 30_000, 32_000).clip_id


def test_subset_part_and_variation_are_in_the_identity(curation: Curation) -> None:
    span_of_all = clip(curation.store)
    solo, bass, faster = clip(curation.store), clip(curation.store), clip(curation.store)
    for new, part in ((solo, 0), (bass, 1)):
        new.source.subset, new.source.part = "monophonic", part
    faster.source.variation.MergeFrom(common.Variation(number=1, tempo_factor=1.1))
    ids, outcomes, _ = curation.upsert("demo", [span_of_all, solo, bass, faster])
    assert (len(set(ids)), outcomes) == (4, {"created": 4})
    assert [row.clip_id for row in curation.page(pb.ListClipsRequest(), 10).clips].count(ids[1]) == 1
    assert curation.upsert("demo", [span_of_all, solo, bass, faster])[1] == {"unchanged": 4}


def test_the_subset_that_is_meant_where_none_is_named_is_polyphonic(curation: Curation) -> None:
    name, named = one(curation, clip(curation.store)), clip(curation.store)
    named.source.subset = "polyphonic"
    assert one(curation, named) == name


def test_the_same_clip_again_changes_nothing(curation: Curation) -> None:
    name = one(curation, clip(curation.store))
    _, outcomes, _ = curation.upsert("demo", [clip(curation.store)])
    assert outcomes == {"unchanged": 1}
    assert curation.clip(name).revision == 1
    assert len(curation.history(name)) == 1


def test_a_new_render_never_overwrites_an_edited_field_and_reopens_the_verdict(curation: Curation) -> None:
    name = one(curation, clip(curation.store, b"first render"))
    key = common.KeyFact(tonic="F#", mode=common.MODE_MINOR)
    edit = Edit(prompts=["A lone cello"], instruments=CELLO, tempo=common.TempoFact(tempo_bpm=61.0), key=key)
    curation.edit(name, 1, "Ada", edit)
    curation.review({name: 2}, Decision(ACCEPTED, "Ada"))

    _, outcomes, _ = curation.upsert(
        "demo", [clip(curation.store, b"second render", tempo_bpm=99.0, prompts=("Rock at 99 BPM",), title="Renamed")]
    )

    row = curation.clip(name)
    assert outcomes == {"revised": 1}
    assert row.revision == 4
    assert [prompt.text for prompt in row.prompts] == ["A lone cello"]
    assert list(row.facts.instruments) == CELLO
    assert row.facts.tempo.tempo_bpm == 61.0
    assert row.facts.key == key
    assert row.edited_fields == ["facts.instruments", "facts.key", "facts.tempo", "prompts"]
    assert (row.verdict, row.reviewer) == (OPEN, "")
    assert row.audio.sha256 == clip(curation.store, b"second render").audio.sha256
    assert row.source.song.title == "Renamed"


def test_after_an_edit_the_old_render_again_is_not_a_revision(curation: Curation) -> None:
    name = one(curation, clip(curation.store))
    curation.edit(name, 1, "Ada", Edit(prompts=["A lone cello"]))
    _, outcomes, _ = curation.upsert("demo", [clip(curation.store)])
    assert outcomes == {"unchanged": 1}
    assert curation.clip(name).prompts[0].text == "A lone cello"


def test_fields_that_nobody_edited_follow_the_render(curation: Curation) -> None:
    name = one(curation, clip(curation.store))
    curation.edit(name, 1, "Ada", Edit(instruments=CELLO))
    curation.upsert("demo", [clip(curation.store, tempo_bpm=99.0)])
    row = curation.clip(name)
    assert row.facts.tempo.tempo_bpm == 99.0
    assert list(row.facts.instruments) == CELLO
    assert "cello" in row.prompts[0].text.lower(), "what the render's prompts say of other instruments is mended"
    assert "99" in row.prompts[0].text
    assert row.checked


def test_tags_of_a_person_outlive_a_render(curation: Curation) -> None:
    name = one(curation, clip(curation.store))
    curation.edit(name, 1, "Ada", Edit(tags=[("jazz", "genre")]))
    curation.upsert("demo", [clip(curation.store, tempo_bpm=99.0, genre="rock")])
    row = curation.clip(name)
    assert [tag.text for tag in row.tags] == ["jazz"]
    assert "jazz" in row.prompts[0].text.lower()


def test_the_same_sound_with_other_lineage_keeps_the_verdict(curation: Curation) -> None:
    name = one(curation, clip(curation.store))
    curation.review({name: 1}, Decision(ACCEPTED, "Ada"))
    new = clip(curation.store)
    new.lineage.CopyFrom(common.Lineage(versions={"rendering": "2"}))
    _, outcomes, _ = curation.upsert("demo", [new])
    assert outcomes == {"revised": 1}
    assert curation.clip(name).verdict == ACCEPTED


def test_history_tells_every_change_with_before_and_after(curation: Curation) -> None:
    name = one(curation, clip(curation.store))
    curation.edit(name, 1, "Ada", Edit(prompts=["A lone cello"]))
    curation.review({name: 2}, Decision(ACCEPTED, "Bob"))
    told = [(change.revision, change.kind, change.who) for change in curation.history(name)]
    assert told == [(3, "reviewed", "Bob"), (2, "edited", "Ada"), (1, "created", "pipeline")]
    edited = curation.history(name)[1]
    assert (edited.before.prompts or [])[0].text == PROMPT
    assert (edited.after.prompts or [])[0].text == "A lone cello"


def test_the_same_clip_twice_in_one_request_is_refused(curation: Curation) -> None:
    with pytest.raises(InvalidRequest) as refused:
        curation.upsert("demo", [clip(curation.store), clip(curation.store, b"other")])
    assert refused.value.violations == (("clips[1].source", "must be another clip than clips[0]"),)


def test_audio_that_is_not_stored_is_not_found(curation: Curation) -> None:
    new = clip(curation.store)
    new.audio.key, new.audio.sha256 = f"clips/{'0' * 64}.flac", "0" * 64
    with pytest.raises(NotFound) as missing:
        curation.upsert("demo", [new])
    assert missing.value.reason == "ARTIFACT_NOT_FOUND"


def test_sixteen_writers_of_the_same_clips_create_each_once(curation: Curation) -> None:
    clips = [clip(curation.store, song=song) for song in range(5)]
    together = threading.Barrier(16)

    def write(_: int) -> int:
        together.wait()
        return curation.upsert("demo", clips)[1]["created"]

    with ThreadPoolExecutor(16) as pool:
        created = list(pool.map(write, range(16)))
    assert sum(created) == 5

"""Words that a clip's card shows."""

import pytest

from luthier.common.v1.common_pb2 import (
    FACT_SOURCE_AUDIO,
    FACT_SOURCE_PERSON,
    VOICE_PRESENCE_HEARD,
    VOICE_PRESENCE_NONE,
    ClipFacts,
    TempoFact,
    VoiceFact,
)
from luthier_curation.web.views import tempo_label, voice_label, voice_source


@pytest.mark.parametrize(
    ("tempo", "words"),
    [
        (TempoFact(), "tempo unknown"),
        (TempoFact(tempo_bpm=120), "120 BPM"),
        (TempoFact(tempo_bpm=61.52, changes=True), "about 61.5 BPM, changes"),
        (TempoFact(tempo_bpm=120, beat_quarters=1.5), "120 BPM by the dotted quarter"),
        (TempoFact(tempo_bpm=60, beat_quarters=2), "60 BPM by the half note"),
        (TempoFact(tempo_bpm=180, notated=True, beat_quarters=1), "180 quarter notes per minute"),
    ],
)
def test_a_tempo_names_its_note_value(tempo: TempoFact, words: str) -> None:
    assert tempo_label(tempo) == words


@pytest.mark.parametrize(
    ("facts", "words", "source"),
    [
        (ClipFacts(), "", "speech not checked; vocals not checked"),
        (ClipFacts(voice=VoiceFact()), "voice unknown", "speech not checked; vocals not checked"),
        (
            ClipFacts(voice=VoiceFact(presence=VOICE_PRESENCE_HEARD, source=FACT_SOURCE_AUDIO, speech_share=0.14)),
            "voice heard",
            "speech in 14% of the clip; vocals not checked",
        ),
        (
            ClipFacts(voice=VoiceFact(presence=VOICE_PRESENCE_NONE, source=FACT_SOURCE_PERSON, vocals_share=0.0)),
            "no voice",
            "stated by a person; speech not checked; vocals in 0%",
        ),
        (
            ClipFacts(voice=VoiceFact(presence=VOICE_PRESENCE_NONE)),
            "voice unknown",
            "speech not checked; vocals not checked",
        ),
    ],
)
def test_a_voice_says_who_says_so_and_what_was_not_checked(facts: ClipFacts, words: str, source: str) -> None:
    assert (voice_label(facts), voice_source(facts.voice)) == (words, source)

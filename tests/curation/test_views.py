"""Words that a clip's card shows."""

import pytest

from luthier.common.v1.common_pb2 import TempoFact
from luthier_curation.web.views import tempo_label


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

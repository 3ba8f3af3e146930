"""What ends a run, and what ends only a song."""

import pytest

from luthier_kit.errors import DataLoss, InvalidRequest, PermissionDenied, QuotaExceeded, Unavailable
from luthier_pipeline.failure import fatal


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (Unavailable("the store is down", reason="STORE_UNAVAILABLE"), True),
        (PermissionDenied("no"), True),
        (InvalidRequest("not MIDI", reason="MIDI_NOT_MIDI"), False),
        (DataLoss("corrupt"), False),
        (QuotaExceeded("this song takes every worker with it", reason="CALL_LOST"), False),
    ],
)
def test_only_what_no_song_can_survive_ends_the_run(error, ends):
    assert fatal(error) is ends

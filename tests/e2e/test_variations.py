"""Variations of a song: facts and prompts that another reader of MIDI finds true, in the song's own split."""

import subprocess
import sys
from pathlib import Path

from luthier.curation.v1 import curation_pb2 as curation
from luthier.curation.v1.curation_pb2_grpc import CurationServiceStub
from tests.system import System, songbook

CHECKER = Path(__file__).parents[1] / "bench/variations.py"


def test_what_clips_of_variations_state_is_true_of_the_varied_files(system: System) -> None:
    folder = songbook(system.folder / "varied", keep=1)
    ran = system.luthier("run", str(folder), "--collection", "varied", "--variations", "2", "--mix-only")
    assert (ran["rendered"], ran["variations"], ran["failures"]) == (1, 2, [])

    stub = CurationServiceStub(system.channel("curation"))
    request = curation.ListClipsRequest(filter=curation.ClipFilter(collection="varied"), page_size=500)
    sources = [clip.source for clip in stub.ListClips(request).clips]
    assert {source.variation.number for source in sources} == {0, 1, 2}
    assert len({source.song_fingerprint for source in sources}) == 1
    assert len({source.variation.transpose_semitones for source in sources}) == 3

    command = [sys.executable, str(CHECKER), str(folder), "--collection", "varied"]
    command += ["--curation", system.services["curation"].address]
    for more, code in ([], 0), (["--as-written"], 1):  # held against the file as it is, they are false
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, done.stdout + done.stderr

    again = system.luthier("run", str(folder), "--collection", "varied", "--variations", "2", "--mix-only")
    assert (again["variations"], again["computed"]) == (2, 0)

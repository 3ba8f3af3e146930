"""A clip that curation's page splits, through real processes: the very samples, the facts of each half."""

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from luthier.common.v1.common_pb2 import FACT_SOURCE_TEMPO_MAP
from luthier.curation.v1 import curation_pb2 as curation
from luthier.curation.v1.curation_pb2_grpc import CurationServiceStub
from tests.system import System

FADE_FRAMES = round(0.02 * 44_100)
"""the longest fade at an edge that cuts into sound"""


def sent(system: System, path: str, body: dict[str, Any] | None = None) -> bytes:
    """What the page answers."""
    url = f"http://{system.services['curation'].web.removeprefix('http://')}{path}"
    headers = {"content-type": "application/json", "x-luthier-page": "1"}
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)
    answer: bytes = urllib.request.urlopen(request, timeout=120).read()
    return answer


def samples(system: System, clip: curation.CuratedClip, folder: Path) -> np.ndarray:
    return soundfile.read(system.store.blobs.fetch(clip.audio, folder), dtype="int16")[0]


def test_a_split_at_a_bar_line_gives_two_true_halves(
    system: System, clips: list[curation.CuratedClip], tmp_path: Path
) -> None:
    trusted = [clip for clip in clips if clip.facts.tempo.source == FACT_SOURCE_TEMPO_MAP]
    old = max(trusted, key=lambda clip: clip.facts.duration_s)
    shown = sent(system, f"/clips/{old.clip_id}/details").decode().replace("&#34;", '"')
    beats = json.loads(re.search(r'data-beats="(\[.*?\])"', shown)[1])  # type: ignore[index]
    length_s = old.facts.duration_s
    at_s = min((time_s for time_s, first in beats if first), key=lambda time_s: abs(time_s - length_s / 2))
    parts = [{"start_s": 0, "end_s": at_s}, {"start_s": at_s, "end_s": length_s}]
    body = {"reviewer": "Ada", "expected_revision": old.revision, "parts": parts}
    answer = json.loads(sent(system, f"/api/clips/{old.clip_id}/cut", body))
    stub = CurationServiceStub(system.channel("curation"))
    everything = curation.ClipFilter(collection=old.collection)
    listed = stub.ListClips(curation.ListClipsRequest(filter=everything, page_size=500)).clips
    halves = [clip for name in answer["clip_ids"] for clip in listed if clip.clip_id == name]

    whole = samples(system, old, tmp_path)
    pieces = [samples(system, half, tmp_path) for half in halves]
    assert sum(map(len, pieces)) == len(whole)
    joined = np.concatenate(pieces)
    differing = np.flatnonzero((joined != whole).any(axis=1))
    edges = np.array([0, len(pieces[0]), len(whole)])
    assert np.abs(differing[:, None] - edges).min(axis=1).max(initial=0) <= FADE_FRAMES, "but for fades"
    for half in halves:
        assert half.facts.tempo.source == FACT_SOURCE_TEMPO_MAP
        assert all(prompt.check.passed for prompt in half.prompts)
        assert old.audio.sha256 in lineage_of(system, half)
    assert next(clip for clip in listed if clip.clip_id == old.clip_id).verdict == curation.VERDICT_REJECTED
    sent(system, "/api/undo", {"reviewer": "Ada", "batch_id": answer["batch_id"]})
    listed = stub.ListClips(curation.ListClipsRequest(filter=everything, page_size=500)).clips
    verdicts = {clip.clip_id: clip.verdict for clip in listed}
    assert [verdicts[half.clip_id] for half in halves] == [curation.VERDICT_REJECTED] * 2  # an undone cut has no parts
    assert verdicts[old.clip_id] == old.verdict


def lineage_of(system: System, clip: curation.CuratedClip) -> str:
    return sent(system, f"/clips/{clip.clip_id}/details").decode()

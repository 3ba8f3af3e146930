"""The control of the experiment: the same clips, captioned with the tempo of another song.

A model that is trained on it sees the same audio and as many tempos in its prompts, and can learn nothing of how they
belong together. Where it reaches more than chance, so would a figure that proves nothing.
"""

import random
from typing import Final

from luthier.common.v1.common_pb2 import ClipFacts
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow, DatasetVersion
from luthier.prompting.v1.prompting_pb2 import ComposePromptsRequest
from luthier_pipeline.clients import Clients
from luthier_pipeline.console import Progress

SEED: Final = 0
BACKEND: Final = "grammar"  # that of the data set's own captions; its answers are the same each time
EXPORTED_BY: Final = "luthier experiment (tempos of the captions shuffled among songs)"


def shuffled(manifest: DatasetManifest) -> dict[str, ClipFacts]:
    """Facts of every clip, by clip id, with the tempo of another song, and its descriptors, of which captions state the
    energy; the songs of a split trade among themselves."""
    facts: dict[str, ClipFacts] = {}
    for split in sorted({row.split for row in manifest.rows}):
        rows = [row for row in manifest.rows if row.split == split]
        first = {row.song_fingerprint: row for row in reversed(rows)}  # a song's first clip has its tempo
        songs = sorted(first)
        random.Random(f"{SEED}/{split}").shuffle(songs)
        lent = dict(zip(songs, [*songs[1:], *songs[:1]], strict=True))  # nobody keeps the own one, unless alone
        for row in rows:
            facts[row.clip_id] = _with_tempo_of(row, first[lent[row.song_fingerprint]])
    return facts


def _with_tempo_of(row: DatasetRow, other: DatasetRow) -> ClipFacts:
    facts = ClipFacts()
    facts.CopyFrom(row.facts)
    facts.tempo.CopyFrom(other.facts.tempo)
    facts.estimated_tempo.CopyFrom(other.facts.estimated_tempo)
    del facts.descriptors[:]  # the onset rate, which captions state as energy, would tell the true tempo
    facts.descriptors.extend(other.facts.descriptors)
    return facts


def control_dataset(clients: Clients, entry: DatasetVersion, name: str) -> str:
    """The control of a frozen data set, registered as `name`; answers with `name@n`.

    Its prompts are composed by the prompting service, as those of the data set were, from facts with another tempo;
    everything else stays. Called again it finds what it made.
    """
    store = clients.store
    manifest = store.get(DatasetManifest, entry.manifest, reason="DATASET_INVALID")
    facts, count = shuffled(manifest), len(manifest.rows)
    manifest.name = name
    with Progress("control captions", count) as progress:
        for row in manifest.rows:
            asked = ComposePromptsRequest(
                facts=facts[row.clip_id], tags=row.tags, count=len(row.prompts), backend=BACKEND
            )
            prompts = clients.prompting.ComposePrompts(asked).prompts
            row.prompts[:] = [prompt.text for prompt in prompts]
            row.composers[:] = [prompt.composer for prompt in prompts]
            progress.advance()
    series = store.series(DatasetVersion, f"datasets/{name}")
    newest, ref = series.latest(), store.put("manifests", manifest)
    if newest is not None and newest[1].manifest == ref:
        return f"{name}@{newest[0]}"
    made = DatasetVersion(manifest=ref, collection=entry.collection, splits=entry.splits, exported_by=EXPORTED_BY)
    made.exported_at.GetCurrentTime()
    return f"{name}@{series.append(made)}"

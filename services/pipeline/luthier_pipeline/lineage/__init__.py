"""What came from what: steps, the index of a whole store, and the way back from a file to everything behind it."""

from luthier_pipeline.lineage.graph import Lineage, lineage_of
from luthier_pipeline.lineage.index import Graph, Ids, LineageIndex, open_index
from luthier_pipeline.lineage.steps import (
    ACTION,
    DATASET,
    MODEL,
    OTHER_TOOL,
    PLUGIN,
    READS_AT_ONCE,
    RUN,
    RUNS,
    SOUNDFONT,
    Song,
    Step,
    digest_in_key,
    digests_in,
    is_digest,
    newest_entries,
)

__all__ = [
    "ACTION", "DATASET", "MODEL", "OTHER_TOOL", "PLUGIN", "READS_AT_ONCE", "RUN", "RUNS", "SOUNDFONT", "Graph", "Ids",
    "Lineage", "LineageIndex", "Song", "Step", "digest_in_key", "digests_in", "is_digest", "lineage_of",
    "newest_entries", "open_index",
]  # fmt: skip

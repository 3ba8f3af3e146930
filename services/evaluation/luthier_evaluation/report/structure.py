"""Structure in the report: the self-similarity matrix of a row to listen to that is long enough to have some."""

import tempfile
from pathlib import Path
from typing import Final

from markupsafe import Markup

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.report import plots
from luthier_evaluation.structure import self_similarity
from luthier_kit.rpc import LuthierError
from luthier_kit.store import Store
from luthier_music.audio import AudioError, read_audio

LONG_S: Final = 30.0
"""Audio from this length on has parts to compare, seconds."""


def structure(store: Store, row: pb.SuiteRow, result: pb.RowResult) -> Markup | None:
    """The matrix, with the boundaries of the sections that analysis found.

    None for audio shorter than LONG_S, and where it is not there any more or cannot be read.
    """
    if row.seconds_total < LONG_S or not result.HasField("audio"):
        return None
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = store.blobs.fetch(result.audio, Path(folder), read_only=True)
            samples, rate = read_audio(path, duration_s=row.seconds_total)
    except (LuthierError, AudioError):
        return None
    duration_s = samples.shape[0] / rate
    if duration_s < LONG_S - 1:  # a window may end a little before
        return None
    sections = [(one.span.start_s, one.span.end_s, one.label) for one in result.sections]
    labels = f"; sections {' '.join(label for *_, label in sections)}" if sections else ""
    name = f"Self-similarity of {result.model}, row {result.row}, over {duration_s:.0f} s{labels}"
    return plots.self_similarity(self_similarity(samples, rate), duration_s, sections, name)

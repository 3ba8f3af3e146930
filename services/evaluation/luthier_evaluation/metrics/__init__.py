"""The list of metrics. A new one is a file with a `Metric`, a line here, and a test."""

from luthier_evaluation.metrics import key, sound, tempo
from luthier_evaluation.metrics.metric import Absent, Chance, Metric, Pairs

METRICS: tuple[Metric, ...] = (
    tempo.ACCURACY_1,
    tempo.ACCURACY_2,
    key.EXACT,
    key.MIREX,
    sound.LOUDNESS,
    sound.SILENT,
    sound.LENGTH_ERROR,
)

_WEIGHTS = "its weights are not on this machine and are never downloaded silently; this version has no loader for them"
ABSENT: tuple[Absent, ...] = (
    Absent("fd_openl3", "FD OpenL3", f"not computed: OpenL3 (mel256, env music): {_WEIGHTS}"),
    Absent("kl_passt", "KL PaSST", f"not computed: PaSST: {_WEIGHTS}"),
    Absent("clap_score", "CLAP score", f"not computed: CLAP (630k-audioset-fusion-best): {_WEIGHTS}"),
)

__all__ = ["ABSENT", "METRICS", "Absent", "Chance", "Metric", "Pairs"]

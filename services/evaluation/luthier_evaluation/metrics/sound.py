"""Loudness, silence and length: is there sound, how loud, and does it last as long as asked for?"""

from luthier_evaluation.metrics.metric import Metric

LOUDNESS = Metric(
    "loudness_lufs",
    "Loudness",
    "LUFS",
    "integrated loudness after BS.1770-4; silent rows are left out",
    lambda _, made: made.loudness_lufs,
)
SILENT = Metric("silent", "Silent", "share", "no sound above the gate of BS.1770-4", lambda _, made: float(made.silent))
LENGTH_ERROR = Metric(
    "length_error_s",
    "Length error",
    "s",
    "distance between the length of the file and the length asked for",
    lambda row, made: abs(made.duration_s - row.seconds_total),
)

"""Few-shot examples for the language model: facts and a caption of exactly these facts, written by hand."""

from typing import Final

from luthier_prompting.facts import Facts, Heard

EXAMPLES: Final = (
    (
        Facts(
            tempo_bpm=92.0, tonic="Bb", mode="minor", genres=("hip hop",), moods=("relaxed", "dark"),
            instruments=(Heard("Electric Piano 1"), Heard("Drums"), Heard("Electric Bass (finger)")),
        ),
        "Relaxed hip hop in Bb minor drifts along at 92 BPM, electric piano chords settling over drums and a round "
        "electric bass, dark around the edges.",
    ),
    (
        Facts(
            tempo_bpm=168.0, tonic="D", mode="major", genres=("country",), moods=("lively",),
            instruments=(Heard("Fiddle"), Heard("Banjo"), Heard("Acoustic Bass")),
        ),
        "Fiddle and banjo chase each other over an upright bass in a lively country tune, D major, 168 BPM.",
    ),
    (
        Facts(tonic="C#", mode="minor", genres=("ambient",), instruments=(Heard("Pad 2 (warm)"), Heard("Celesta"))),
        "An ambient piece in C# minor where a warm synth pad breathes beneath glints of celesta.",
    ),
)  # fmt: skip

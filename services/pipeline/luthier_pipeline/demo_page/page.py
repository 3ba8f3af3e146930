"""The page: prompts down, systems across, with scores above and where all of it comes from below."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from luthier.evaluation.v1.evaluation_pb2 import EvaluationResults, RowResult, Score, SuiteRow
from luthier_music.key_facts import key_of
from luthier_music.keys import Key
from luthier_music.tempo import accuracy_1, accuracy_2
from luthier_pipeline.demo_page.sounds import HIGHEST_HZ, LOWEST_HZ, RANGE_DB, Format, Sound

MARK: Final = "<!-- Written by luthier demo-page; the next one into this folder writes it anew. -->"
"""First line of a page. By it the command knows its own folders from those of others."""
FILES: Final = re.compile(
    r"index\.html|audio(/[0-9]+-[0-9]+-[a-z0-9-]*\.(flac|mp3))?|pictures(/[0-9]+-[0-9]+-[a-z0-9-]*\.png)?"
)
"""What a page's folder holds."""
TITLES: Final = {
    "tempo_accuracy_1": "Tempo accuracy 1",
    "tempo_accuracy_2": "Tempo accuracy 2",
    "key_exact": "Key, exact",
    "key_mirex": "Key, MIREX weighted",
    "loudness_lufs": "Loudness",
    "silent": "Silent",
    "length_error_s": "Length error",
    "stft": "STFT distance",
    "mel": "Mel distance",
    "si_sdr_db": "SI-SDR",
}
SHARES: Final = ("tempo_accuracy_1", "tempo_accuracy_2", "key_exact", "key_mirex", "silent")
UNITS: Final = {"loudness_lufs": "LUFS", "length_error_s": "s", "si_sdr_db": "dB"}
LAST: Final = ("loudness_lufs", "silent", "length_error_s")
"""Of the sound as such: below the metrics of what was asked for."""


@dataclass(frozen=True)
class System:
    """A column: a model or a set of audio of an evaluation, or the rows' references (`evaluation` None)."""

    title: str
    role: str
    digest: str = ""
    settings: str = ""
    dataset: str = ""
    licences: str = ""
    evaluation: EvaluationResults | None = None


@dataclass(frozen=True)
class Cell:
    """What a system has for a row. `missing`: why there is no audio that should be there."""

    system: int
    sound: Sound | None = None
    picture: str = ""
    missing: str = ""
    result: RowResult | None = None


@dataclass(frozen=True)
class Row:
    """A prompt with the cells of all systems, in their order."""

    number: int
    asked: SuiteRow
    cells: Sequence[Cell]

    @property
    def key(self) -> Key | None:
        """The key asked for."""
        return key_of(self.asked.key)


def write_page(
    folder: Path,
    systems: Sequence[System],
    rows: Sequence[Row],
    *,
    title: str,
    licences: Sequence[str],
    kind: Format,
    level_lufs: float | None,
) -> None:
    """Writes index.html into `folder`, beside audio and pictures. `level_lufs`: as `sounds.place` has it."""
    templates = Environment(
        loader=PackageLoader("luthier_pipeline", "demo_page"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    script = (Path(__file__).parent / "player.js").read_text(encoding="utf-8")
    evaluations = {one.evaluation.evaluation_id: one.evaluation for one in systems if one.evaluation}
    first = next(iter(evaluations.values()))
    measured = [one for one in systems if one.evaluation]
    text = templates.get_template("page.html").render(
        mark=Markup(MARK),  # noqa: S704  a constant
        script=Markup(script),  # noqa: S704  our own
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        title=title,
        suite=first.plan.suite,
        suite_sha256=first.suite_sha256,
        evaluations=list(evaluations.values()),
        systems=systems,
        rows=rows,
        measured=measured,
        scores=score_rows(measured),
        licences=licences,
        kind=kind,
        level_lufs=level_lufs,
        axis=f"{LOWEST_HZ:g} Hz to {HIGHEST_HZ / 1000:g} kHz",
        range_db=RANGE_DB,
        tempo_verdict=tempo_verdict,
        key_of=key_of,
        wave=wave,
        number=number,
        titles=TITLES,
    )
    (folder / "index.html").write_text(text, encoding="utf-8")


def is_page(path: Path) -> bool:
    """Whether a file begins as a page of this command does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MARK)) == MARK.encode()


def score_rows(systems: Sequence[System]) -> list[tuple[str, list[Score | None]]]:
    """Metrics that were computed of any of the systems, each with the systems' scores in their order."""
    names: dict[str, None] = {}
    found: dict[tuple[str, int], Score] = {}
    for index, system in enumerate(systems):
        for score in system.evaluation.scores if system.evaluation else ():
            if score.model == system.title and score.HasField("value"):
                names[score.metric] = None
                found[score.metric, index] = score
    ordered = sorted(names, key=lambda name: LAST.index(name) + 1 if name in LAST else 0)
    return [(name, [found.get((name, index)) for index in range(len(systems))]) for name in ordered]


def number(metric: str, value: float) -> str:
    """`62.5 %` for shares, `−14.2 LUFS`, else two decimals and the unit. Spaces do not break."""
    if metric in SHARES:
        text = f"{100 * value:.1f} %"
    else:
        text = f"{value:.{1 if metric in UNITS else 2}f} {UNITS.get(metric, '')}".rstrip()
    return text.replace("-", "−").replace(" ", "\N{NO-BREAK SPACE}")


def tempo_verdict(asked: SuiteRow, result: RowResult) -> str:
    """`right` (Accuracy 1), `octave` (Accuracy 2) or `wrong`."""
    measured = result.tempo.tempo_bpm
    if not measured or not accuracy_2(asked.tempo_bpm, measured):
        return "wrong"
    return "right" if accuracy_1(asked.tempo_bpm, measured) else "octave"


def wave(peaks: Sequence[float]) -> str:
    """The path of a waveform in a box as wide as it has bars and 2 high, mirrored about the middle."""
    heights = [max(0.02, peak) for peak in peaks]
    upper = " ".join(f"{x + 0.5:g},{1 - height:.3f}" for x, height in enumerate(heights))
    lower = " ".join(f"{x + 0.5:g},{1 + height:.3f}" for x, height in reversed(list(enumerate(heights))))
    return f"M{upper} {lower}Z"


def by_row(results: EvaluationResults) -> Mapping[tuple[str, int], RowResult]:
    """Results by model and row."""
    return {(result.model, result.row): result for result in results.rows}

"""The page of a sweep: scores against steps, guidance or sampler, with intervals, and seconds of compute for each row.

The x axis is the first of steps, guidance and sampler of which there are several; each combination of the others is a
line.
"""

import base64
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import cycle
from pathlib import Path
from typing import Final, TypeVar

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from luthier.evaluation.v1.evaluation_pb2 import CreateEvaluationRequest, EvaluationResults, RowResult, Score

T = TypeVar("T")

TITLES: Final = {
    "tempo_accuracy_1": "Tempo, Accuracy 1",
    "tempo_accuracy_2": "Tempo, Accuracy 2",
    "key_exact": "Key, exact",
    "key_tonic": "Key, tonic only",
    "key_mirex": "Key, MIREX",
    "silent": "Silent rows",
    "loudness_lufs": "Loudness (LUFS)",
    "copies": "Copies of training clips",
    "genres_heard": "Genres heard",
    "instruments_heard": "Instruments heard",
    "length_error_untrimmed_s": "Length error, untrimmed (s)",
    "length_bias_untrimmed_s": "Length bias, untrimmed (s)",
}
"""Scores that need another word than their name."""
NOT_SHOWN: Final = ("length_error_s", "tempo_second_agrees")
"""0 by construction; of the estimators, not of the model."""
COLOURS: Final = ("#0b7a75", "#7a5195", "#b8651b", "#3d6fb4", "#8a94a6")
MARKERS: Final = ("o", "s", "^", "D", "v")
NORMAL_95: Final = 1.959964
"""Half-width of the 95 % interval of a mean, in standard errors."""


@dataclass(frozen=True)
class Seconds:
    """Mean seconds of denoising and decoding a row, with its 95 % interval, over `n` rows."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Setting:
    """One setting and what was measured with it: its results, or why it has none."""

    request: CreateEvaluationRequest
    evaluation_id: str
    results: EvaluationResults | None = None
    error: str = ""

    @cached_property
    def scores(self) -> Mapping[str, Score]:
        """Scores of the model that were computed, by metric."""
        if not self.results:
            return {}
        model = self.results.plan.models[-1].model
        return {
            score.metric: score
            for score in self.results.scores
            if score.model == model and score.HasField("value") and score.metric not in NOT_SHOWN
        }

    @cached_property
    def compute_s(self) -> Seconds | None:
        """None where no row says how long it took."""
        taken = [row.compute_s for row in self.results.rows if row.HasField("compute_s")] if self.results else []
        if not taken:
            return None
        mean, error = float(np.mean(taken)), float(np.std(taken, ddof=1) / np.sqrt(len(taken))) if taken[1:] else 0.0
        return Seconds(mean, max(0.0, mean - NORMAL_95 * error), mean + NORMAL_95 * error, len(taken))

    @property
    def steps(self) -> int | None:
        """That took effect; None where nothing did."""
        return _common([row.steps for row in self._rows]) or (self.request.steps or None)

    @property
    def sampler(self) -> str:
        return _common([row.sampler for row in self._rows]) or self.request.sampler or "the model's own"

    @property
    def guidance_scale(self) -> float | None:
        found = _common([row.guidance_scale for row in self._rows if row.HasField("guidance_scale")])
        return (
            found if found is not None or not self.request.HasField("guidance_scale") else self.request.guidance_scale
        )

    @property
    def labels(self) -> tuple[str, str, str]:
        """Steps, sampler and guidance as they are written."""
        scale = self.guidance_scale
        return str(self.steps or "own"), self.sampler, "own" if scale is None else f"{scale:g}"

    @property
    def _rows(self) -> Sequence[RowResult]:
        return [row for row in self.results.rows if not row.HasField("error")] if self.results else []


def told(request: CreateEvaluationRequest) -> str:
    """What a request sets, for people."""
    parts = [
        f"{request.steps} steps" if request.HasField("steps") else "",
        request.sampler,
        f"guidance {request.guidance_scale:g}" if request.HasField("guidance_scale") else "",
    ]
    return ", ".join(filter(None, parts)) or "the model's own"


@dataclass(frozen=True)
class Axis:
    """What the settings differ in first: its name, each setting's place and label on it, and whether it is a number."""

    name: str
    places: Sequence[float]
    labels: Mapping[float, str]
    log: bool


def write_page(path: Path, model: str, settings: Sequence[Setting]) -> None:
    """Writes the page, one file that needs nothing else."""
    measured = [setting for setting in settings if setting.results]
    axis, lines = _axis(measured)
    names = list(dict.fromkeys(name for setting in measured for name in setting.scores))
    results = measured[0].results
    assert results
    templates = Environment(
        loader=PackageLoader("luthier_pipeline", "sweep"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    plots = [_plot(axis, lines, measured, TITLES.get(name, name), partial(_score, name=name)) for name in names]
    page = templates.get_template("report.html").render(
        model=model,
        suite=results.plan.suite,
        suite_sha256=results.suite_sha256,
        machine=results.machine,
        settings=settings,
        names=names,
        titles=TITLES,
        plots=[*plots, _plot(axis, lines, measured, "Seconds of denoising and decoding a row", _compute)],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def document(model: str, settings: Sequence[Setting], report: Path) -> dict[str, object]:
    """Plain JSON of all of it."""
    return {
        "model": model,
        "report": str(report),
        "settings": [
            {
                "steps": setting.steps,
                "sampler": setting.sampler,
                "guidance_scale": setting.guidance_scale,
                "evaluation": setting.evaluation_id,
                "error": setting.error,
                "compute_s": asdict(setting.compute_s) if setting.compute_s else None,
                "scores": {
                    name: {
                        "value": score.value,
                        "low": score.low if score.HasField("low") else None,
                        "high": score.high if score.HasField("high") else None,
                        "chance": score.chance if score.HasField("chance") else None,
                        "n": score.n,
                    }
                    for name, score in setting.scores.items()
                },
            }
            for setting in settings
        ],
    }


def _common(values: Sequence[T]) -> T | None:
    """The most frequent of the values; None for none."""
    return Counter(values).most_common(1)[0][0] if values else None


def _axis(settings: Sequence[Setting]) -> tuple[Axis, Sequence[str]]:
    """The axis, and the line that each setting is on, by its name."""
    steps, samplers, scales = zip(*(setting.labels for setting in settings), strict=True)
    if len(set(steps)) > 1:
        places = [float(setting.steps or 0) for setting in settings]
        names = _lines({"": samplers, "guidance ": scales}, len(settings))
        return Axis("Denoising steps", places, dict(zip(places, steps, strict=True)), log=min(places) > 0), names
    if len(set(scales)) > 1:
        places = [float(setting.guidance_scale or 0) for setting in settings]
        names = _lines({"": samplers}, len(settings))
        return Axis("Guidance scale", places, dict(zip(places, scales, strict=True)), log=False), names
    order = list(dict.fromkeys(samplers))
    places = [float(order.index(sampler)) for sampler in samplers]
    return Axis("Sampler", places, dict(zip(places, samplers, strict=True)), log=False), [""] * len(settings)


def _lines(kinds: Mapping[str, Sequence[str]], count: int) -> list[str]:
    """Of each setting what it has of the kinds in which there are several."""
    several = {word: labels for word, labels in kinds.items() if len(set(labels)) > 1}
    return [", ".join(word + labels[number] for word, labels in several.items()) for number in range(count)]


def _score(setting: Setting, name: str) -> tuple[float, float, float] | None:
    """Value, lower and upper end; None where it was not computed."""
    score = setting.scores.get(name)
    if not score:
        return None
    low, high = (score.low, score.high) if score.HasField("low") else (score.value, score.value)
    return score.value, low, high


def _compute(setting: Setting) -> tuple[float, float, float] | None:
    taken = setting.compute_s
    return (taken.mean, taken.low, taken.high) if taken else None


def _plot(
    axis: Axis,
    lines: Sequence[str],
    settings: Sequence[Setting],
    title: str,
    value: Callable[[Setting], tuple[float, float, float] | None],
) -> Markup:
    figure = Figure((4.6, 3.0), layout="constrained")
    axes = figure.add_subplot()
    names = list(dict.fromkeys(lines))
    told = []
    for name, colour, marker in zip(names, cycle(COLOURS), cycle(MARKERS), strict=False):
        points = sorted(
            (place, *found)
            for place, line, setting in zip(axis.places, lines, settings, strict=True)
            if line == name and (found := value(setting))
        )
        if not points:
            continue
        x, y, low, high = np.array(points).T
        joined = "none" if axis.name == "Sampler" else "-"
        axes.errorbar(
            x, y, (np.maximum(0, y - low), np.maximum(0, high - y)), color=colour, marker=marker, markersize=5,
            linestyle=joined, linewidth=1.2, capsize=3, label=name or None,
        )  # fmt: skip
        told.append(
            f"{name}: " * bool(name)
            + ", ".join(f"{axis.labels[at]} {height:.3g}" for at, height in zip(x, y, strict=True))
        )
    if axis.log:
        axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(axis.labels), [axis.labels[at] for at in sorted(axis.labels)])
    axes.minorticks_off()
    axes.set(xlabel=axis.name)
    axes.set_title(title, fontsize=9)
    axes.grid(color="#eef1f5")
    axes.spines[["top", "right"]].set_visible(False)
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=8)
    return _svg(figure, f"{title} by {axis.name.lower()}. {'; '.join(told)}")


def _svg(figure: Figure, name: str) -> Markup:
    """The figure as an image that stands in the page."""
    held = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "luthier"}):
        figure.savefig(held, format="svg", metadata={"Date": None})
    data = base64.b64encode(held.getvalue()).decode()
    return Markup('<img alt="{}" src="data:image/svg+xml;base64,{}">').format(name, data)

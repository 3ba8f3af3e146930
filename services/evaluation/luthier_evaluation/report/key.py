"""Keys in the report: how what was measured stands to what was asked for, every pair of keys, and scores by genre."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.report import plots
from luthier_evaluation.report.genres import GenreScores, genre_scores
from luthier_music.key_facts import key_of
from luthier_music.keys import MODES, Key, key_score

RELATIONS: Final = {1.0: "exact", 0.5: "a fifth above", 0.3: "relative", 0.2: "parallel", 0.0: "other"}
"""How keys stand to each other, by their MIREX score."""
NO_KEY: Final = "no key found"
FIFTHS: Final = tuple(Key(7 * step % 12, mode) for mode in MODES for step in range(12))
"""All keys in the order of the circle of fifths from C: major, then minor."""


@dataclass(frozen=True)
class KeySection:
    """What the report shows of keys.

    `relations`: (relation, [(rows, share) of each model]), empty where no row asks for a key; `confusions`: one matrix
    for each model.
    """

    relations: Sequence[tuple[str, Sequence[tuple[int, float]]]]
    confusions: Sequence[Markup]
    genres: GenreScores | None


def key_section(results: pb.EvaluationResults, colours: Sequence[str]) -> KeySection:
    """`colours` are those of the plan's models."""
    pairs = [_pairs(results, model.model) for model in results.plan.models]
    asked = any(key_of(row.key) for row in results.plan.suite.rows)
    counts = [Counter(relation(*pair) for pair in of_model) for of_model in pairs]
    names = [*RELATIONS.values(), NO_KEY] if asked else []
    return KeySection(
        relations=[(name, [(count[name], count[name] / max(1, count.total())) for count in counts]) for name in names],
        confusions=[
            plots.confusion(
                confusion(of_model), [short(key) for key in FIFTHS], [*map(short, FIFTHS), "none"], colour, model.model
            )
            for model, of_model, colour in zip(results.plan.models, pairs, colours, strict=True)
            if asked
        ],
        genres=genre_scores(results, ("key_exact", "key_tonic", "key_mirex"), colours),
    )


def relation(asked: Key, measured: Key | None) -> str:
    """How the key measured stands to the key asked for, in MIREX's terms."""
    return RELATIONS[key_score(asked, measured)] if measured else NO_KEY


def confusion(pairs: Sequence[tuple[Key, Key | None]]) -> NDArray[np.int64]:
    """Rows by key asked for and key measured: (24, 25), in the order of FIFTHS, the last column for no key."""
    place = {key: number for number, key in enumerate(FIFTHS)}
    counts = np.zeros((len(FIFTHS), len(FIFTHS) + 1), dtype=np.int64)
    for asked, measured in pairs:
        counts[place[asked], place[measured] if measured else len(FIFTHS)] += 1
    return counts


def short(key: Key) -> str:
    """`F#` for F# major, `F#m` for F# minor."""
    return key.tonic_name if key.mode == "major" else f"{key.tonic_name}m"


def _pairs(results: pb.EvaluationResults, model: str) -> list[tuple[Key, Key | None]]:
    """Keys asked for and measured, of the rows of a model that did not fail."""
    return [
        (asked, key_of(result.key))
        for result in results.rows
        if result.model == model
        and not result.HasField("error")
        and (asked := key_of(results.plan.suite.rows[result.row].key))
    ]

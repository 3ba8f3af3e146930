"""How often musicnn's taggers are right about instruments and genres of rendered music, and from which belief on.

    services/pipeline/.venv/bin/python -c "from pathlib import Path; from luthier_pipeline.songbook import compose; \
compose(Path('SONGS'), 60)"
    services/rendering/.venv/bin/python tests/bench/tagger_clips.py CLIPS SONGS [FOLDER ...]
    services/evaluation/.venv/bin/python -m luthier_evaluation.conversion musicnn_msd --out WEIGHTS
    services/evaluation/.venv/bin/python -m luthier_evaluation.conversion musicnn_mtt --out WEIGHTS
    services/evaluation/.venv/bin/python tests/bench/tagger_accuracy.py CLIPS WEIGHTS --out FILE

Of each word of `luthier_evaluation.tags`: its threshold, the belief at which balanced accuracy is highest, chosen on
mixes where there are enough of them, as generated music is a mix, else on stems; and hits and false alarms at
thresholds that were chosen without the clip's song (five folds by song). What a clip proves neither way is left out of
a word: an instrument that sounds for less than two seconds of a mix, a genre that is among the tags of a song of
another genre.
Writes the file that the service ships, and prints a table.
"""

import argparse
import datetime
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from luthier_evaluation.embedders import EMBEDDERS, Embedder, Embedding
from luthier_evaluation.tags import MIN_SOUNDS, TAGS, USEFUL, Kind, Rates, Tag, TaggerAccuracy, WordAccuracy, belief
from luthier_music.audio import read_audio
from luthier_music.audio_rate import resampled
from luthier_music.instrument_words import PHRASES
from luthier_music.vocabulary import implied_genres, normalise, understand

FOLDS: Final = 5
WORKERS: Final = 2
COMMAND: Final = "tests/bench/tagger_clips.py CLIPS SONGS FOLDER; tests/bench/tagger_accuracy.py CLIPS WEIGHTS"


@dataclass(frozen=True)
class Clip:
    """As `tests/bench/tagger_clips.py` wrote it."""

    file: str
    song: str
    kind: str
    programs: list[int]
    unsure: list[int]
    genre: str
    tags: list[str]

    @property
    def mixed(self) -> bool:
        return self.kind == "mix"


def has(kind: Kind, word: str, clip: Clip) -> bool | None:
    """Whether a clip has the word; None where that is not known."""
    if kind == "instrument":
        if PHRASES[word] & set(clip.programs):
            return True
        return None if PHRASES[word] & set(clip.unsure) else False
    if not clip.genre or not clip.mixed:
        return None
    if normalise(word) in genres_of(clip.genre):
        return True
    return None if any(normalise(word) in genres_of(tag) for tag in clip.tags) else False


@cache
def genres_of(tag: str) -> frozenset[str]:
    """What a tag says of the genre, with all that it implies, in the form in which genres are compared."""
    genres = {word.text for word in understand(tag, "genre") if word.kind == "genre"}
    return frozenset(normalise(name) for genre in genres for name in implied_genres(genre))


@cache
def embedder(name: str, weights: Path) -> Embedder:
    torch.set_num_threads(1)
    return EMBEDDERS[name].open(weights / f"{name}.safetensors")


def beliefs(clips: Path, weights: Path, clip: Clip) -> dict[str, float]:
    """The belief in each word of which the clip proves something, by "kind word"."""
    samples, rate = read_audio(clips / clip.file)
    mono = samples.mean(axis=1, keepdims=True)
    wanted = {
        (k, word): tag for k, tags in TAGS.items() for word, tag in tags.items() if has(k, word, clip) is not None
    }
    found: dict[str, Embedding] = {}
    for who in sorted({tag.embedder for tag in wanted.values()}):
        opened = embedder(who, weights)
        found[who] = opened.embed(resampled(mono, rate, opened.sample_rate_hz))
    return {f"{kind} {word}": belief(tag, found[tag.embedder]) for (kind, word), tag in wanted.items()}


def chosen(clips: Sequence[Clip], stems: int) -> list[Clip]:
    """All mixes and lines, and of each program so many stems, drawn by their names: songs have drums in plenty."""
    taken: Counter[int] = Counter()
    found = [clip for clip in clips if clip.kind != "stem"]
    for clip in sorted(clips, key=lambda clip: hashlib.sha256(clip.file.encode()).hexdigest()):
        if clip.kind == "stem" and taken[clip.programs[0]] < stems:
            taken[clip.programs[0]] += 1
            found.append(clip)
    return found


def best_threshold(values: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """The belief from which on a word is best called heard; the middle between two neighbours."""
    if truth.all() or not truth.any():
        return 0.5
    edges = np.unique(values)
    candidates = np.concatenate([[0.0], (edges[1:] + edges[:-1]) / 2])
    hits = 1.0 - np.searchsorted(np.sort(values[truth]), candidates) / truth.sum()
    rejected = np.searchsorted(np.sort(values[~truth]), candidates) / (~truth).sum()
    return float(candidates[int(np.argmax(hits + rejected))])


def area(values: NDArray[np.float64], truth: NDArray[np.bool_]) -> float | None:
    """Under the ROC curve: the share of pairs of a clip with and one without that are in order."""
    if truth.all() or not truth.any():
        return None
    low, high = (np.searchsorted(np.sort(values[~truth]), values[truth], side=side) for side in ("left", "right"))
    return round(float((low + high).mean() / 2 / (~truth).sum()), 3)


@dataclass(frozen=True)
class Measured:
    """A word's beliefs, its truth, and the fold of each clip's song."""

    values: NDArray[np.float64]
    truth: NDArray[np.bool_]
    folds: NDArray[np.int64]

    @property
    def enough(self) -> bool:
        return bool(min(self.truth.sum(), (~self.truth).sum()) >= MIN_SOUNDS)

    def rates(self, chosen_on: "Measured") -> Rates:
        """At thresholds that were chosen on the songs of the other folds."""
        heard = np.zeros(len(self.values), dtype=bool)
        for fold in range(FOLDS):
            others, here = chosen_on.folds != fold, self.folds == fold
            threshold = best_threshold(chosen_on.values[others], chosen_on.truth[others])
            heard[here] = self.values[here] >= threshold
        hits, alarms = int((heard & self.truth).sum()), int((heard & ~self.truth).sum())
        positives = int(self.truth.sum())
        return Rates(hits, positives, alarms, len(self.truth) - positives, area(self.values, self.truth))


def measured(kind: Kind, word: str, clips: Sequence[Clip], found: Sequence[dict[str, float]], mixed: bool) -> Measured:
    rows = [
        (
            values[f"{kind} {word}"],
            has(kind, word, clip),
            int(hashlib.sha256(clip.song.encode()).hexdigest(), 16) % FOLDS,
        )
        for clip, values in zip(clips, found, strict=True)
        if clip.mixed is mixed and f"{kind} {word}" in values
    ]
    values, truths, folds = zip(*rows, strict=True) if rows else ((), (), ())
    return Measured(np.array(values, float), np.array(truths, bool), np.array(folds, int))


def accuracy(kind: Kind, tag: Tag, clips: Sequence[Clip], found: Sequence[dict[str, float]]) -> WordAccuracy:
    stems, mixes = (measured(kind, tag.word, clips, found, mixed) for mixed in (False, True))
    chosen_on = mixes if mixes.enough else stems
    threshold = round(best_threshold(chosen_on.values, chosen_on.truth), 6)
    rates = (stems.rates(chosen_on), mixes.rates(chosen_on))
    return WordAccuracy(kind, tag.word, tag.embedder, tag.classes, threshold, *rates)


def line(one: WordAccuracy) -> str:
    shown = []
    for rates in (one.stems, one.mixes):
        balanced = rates.balanced_accuracy
        shown.append(
            f"{rates.hits:4}/{rates.positives:<4} {rates.false_alarms:4}/{rates.negatives:<5}"
            + (f"{balanced:.2f}  {rates.area:.2f}" if balanced is not None else "  -     - ")
        )
    decides = one.rates.balanced_accuracy or 0.0
    verdict = "not known" if not one.rates.measured else "" if decides >= USEFUL else "useless"
    return f"{one.kind:10} {one.word:18} {one.threshold:.3f} | {shown[0]} | {shown[1]} | {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path, help="the JSON file that is written")
    parser.add_argument("--stems", type=int, default=4, metavar="N", help="of stems, so many of each program")
    options = parser.parse_args()
    document = json.loads((options.clips / "clips.json").read_text(encoding="utf-8"))
    clips = chosen([Clip(**clip) for clip in document["clips"]], options.stems)
    with ProcessPoolExecutor(WORKERS) as pool:
        work = partial(beliefs, options.clips, options.weights)
        found = list(pool.map(work, clips, chunksize=8))
    words = [accuracy(kind, tag, clips, found) for kind, tags in TAGS.items() for tag in tags.values()]
    known = TaggerAccuracy(
        measured_on=datetime.datetime.now(datetime.UTC).date().isoformat(),
        command=COMMAND,
        soundfont=document["soundfont"],
        clips=len(clips),
        songs=len({clip.song for clip in clips}),
        weights={
            name: embedder(name, options.weights).weights_sha256 for name in sorted({one.embedder for one in words})
        },
        words=tuple(words),
    )
    print(f"{known.clips} clips of {known.songs} songs, {known.soundfont}")
    print(f"{'':29} threshold | stems: hits, false alarms, balanced accuracy, area | mixes: the same")
    print("\n".join(map(line, words)))
    if options.out:
        options.out.write_text(json.dumps(asdict(known), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

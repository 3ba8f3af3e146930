"""Adherence: are the genres and instruments that prompts state heard in the audio, as a tagger hears?

Every word that any row of a suite asks for is looked for in every row: what is heard in rows that do not ask for it is
the chance level. How often the tagger itself is right, on rendered clips of which the truth is known, stands beside it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.embedders import Embedding
from luthier_evaluation.tags import Heard, NotHeard, WordAccuracy, genre_heard, instrument_heard, shipped_accuracy

MAX_WORDS: Final = 200  # of a kind in a suite: those that most rows ask for
Kind = Literal["genre", "instrument"]
HEARS: Final = {"genre": genre_heard, "instrument": instrument_heard}


def words_of(suite: pb.Suite) -> Mapping[Kind, list[str]]:
    """The words that rows of a suite ask for, those first that most ask for."""
    genres, instruments = Counter[str](), Counter[str]()
    for row in suite.rows:
        genres.update(set(row.genres))
        instruments.update(set(row.instruments))
    return {
        "genre": [word for word, _ in genres.most_common(MAX_WORDS)],
        "instrument": [word for word, _ in instruments.most_common(MAX_WORDS)],
    }


def heard_words(
    row: pb.SuiteRow, words: Mapping[Kind, Sequence[str]], embeddings: Mapping[str, Embedding]
) -> Iterator[pb.HeardWord]:
    """Of each word that a tagger can tell: whether it is heard. `embeddings`: the audio's, by embedder."""
    if not embeddings:
        return
    for kind, asked in words.items():
        here = set(row.genres if kind == "genre" else row.instruments)
        for found in HEARS[kind](asked, embeddings):
            if isinstance(found, Heard):
                yield pb.HeardWord(
                    kind=kind,
                    asked=found.asked,
                    as_word=found.as_word,
                    belief=found.belief,
                    heard=found.heard,
                    asked_here=found.asked in here,
                )


def share_heard(kind: Kind, result: pb.RowResult) -> float | None:
    """Of the words that a row asks for and a tagger can tell, the share that is heard; None without any."""
    heard = [word.heard for word in result.heard if word.kind == kind and word.asked_here]
    return sum(heard) / len(heard) if heard else None


def heard_by_chance(kind: Kind, results: Sequence[pb.RowResult]) -> float | None:
    """What rows reach whose audio does not know their words: each asked for word held against the rows that do not ask
    for it. None where no word can be held so.
    """
    elsewhere = Counter[str]()
    others = Counter[str]()
    asked = Counter[str]()
    for word in (word for result in results for word in result.heard if word.kind == kind):
        asked[word.asked] += word.asked_here
        others[word.asked] += not word.asked_here
        elsewhere[word.asked] += word.heard and not word.asked_here
    held = {word: count for word, count in asked.items() if count and others[word]}
    if not held:
        return None
    return sum(count * elsewhere[word] / others[word] for word, count in held.items()) / sum(held.values())


@dataclass(frozen=True)
class WordHeard:
    """A word over all rows of a model: in how many that ask for it, and that do not, it is heard."""

    kind: Kind
    word: str
    asked: int
    heard: int
    others: int
    heard_elsewhere: int
    accuracy: WordAccuracy


def by_word(suite: pb.Suite, results: Sequence[pb.RowResult]) -> list[WordHeard | NotHeard]:
    """Each word that rows of the suite ask for, those first that most ask for; of what no tagger can tell, why."""
    found: list[WordHeard | NotHeard] = []
    for kind, asked in words_of(suite).items():
        for word in asked:
            of_word = [one for result in results for one in result.heard if (one.kind, one.asked) == (kind, word)]
            known = shipped_accuracy().of(kind, of_word[0].as_word) if of_word else None
            if known is None:
                found += [one for one in HEARS[kind]([word], {}) if isinstance(one, NotHeard)]
                continue
            here, others = (
                [one.heard for one in of_word if one.asked_here],
                [one.heard for one in of_word if not one.asked_here],
            )
            found.append(WordHeard(kind, word, len(here), sum(here), len(others), sum(others), known))
    return found

"""Captions: how well the checker finds what is false, and how varied the composers' captions are.

    uv run --project services/prompting --group bench python -m tests.bench.captions [--vllm URL --model NAME]

The checker, on the captions that tests/prompting/captions labels: precision is the share of its objections that are
right, recall the share of false captions that it objects to. Diversity, by 16 captions of each of 9 clips, and by one
caption each of 300 clips with facts drawn at random: distinct-1 and -2 (Li et al. 2016), the share of words and pairs
of words that are different; self-BLEU (Zhu et al. 2018), BLEU-4 of each caption against all others, 1 = all alike. A
template that always says the facts in the same words is beside them: facts alone make captions of many clips differ.
"""

import argparse
import random
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence

from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from nltk.util import ngrams

from luthier_music.clip_facts import Facts, Heard
from luthier_music.composing import Composer, Grammar, Style, compose
from luthier_music.instruments import DRUMS, PROGRAM_NAMES, caption_name
from luthier_music.keys import TONICS
from luthier_music.vocabulary import GENRE_PARENTS, MOOD_WORDS
from luthier_prompting.vllm import Endpoint, Vllm
from tests.prompting.labelled import SETS, Sentence, clips, score, sentences

PER_CLIP, CLIPS = 16, 300

Write = Callable[[Facts, int, int], list[str]]
"""Captions of a clip: facts, how many, seed."""


def template(facts: Facts) -> str:
    """The facts in always the same words."""
    names = [caption_name(heard.program) for heard in facts.required_instruments() if heard.program is not None]
    kind = " ".join([*facts.moods[:1], *facts.genres[:1], "music"])
    key = f" in {facts.tonic} {facts.mode}" if facts.tonic else ""
    tempo = f" at {facts.tempo_bpm:.0f} BPM" if facts.tempo_bpm else ""
    return f"This is {kind}{key}{tempo} with {', '.join(names)}."


def by(composer: Composer, style: Style) -> Write:
    def write(facts: Facts, count: int, seed: int) -> list[str]:
        return [p.text for p in compose(composer, facts, count=count, seed=seed, styles=[style]).prompts]

    return write


def drawn(rng: random.Random) -> Facts:
    """Facts of a clip that is not there."""
    names = rng.sample([*PROGRAM_NAMES, DRUMS], rng.randint(1, 5))
    return Facts(
        tempo_bpm=float(rng.randint(60, 180)),
        beat_quarters=1.0,
        tonic=rng.choice(TONICS),
        mode=rng.choice(["major", "minor"]),
        instruments=tuple(map(Heard, names)),
        meter=(4, 4),
        onset_rate_hz=rng.choice([2.0, 4.0, 7.0]),
        genres=tuple(rng.sample(sorted(GENRE_PARENTS), 1)),
        moods=tuple(rng.sample(sorted(set(MOOD_WORDS.values())), 2)),
    )


def words_of(text: str) -> list[str]:
    return re.findall(r"[\w#'&/-]+", text.lower())


def distinct(captions: Sequence[str], n: int) -> float:
    """Different n-grams by n-grams."""
    found = Counter(gram for text in captions for gram in ngrams(words_of(text), n))
    return len(found) / found.total()


def self_bleu(captions: Sequence[str]) -> float:
    """BLEU-4 of each against all others, on average."""
    said, smooth = [words_of(text) for text in captions], SmoothingFunction().method1
    values = [
        sentence_bleu(said[:place] + said[place + 1 :], words, smoothing_function=smooth)
        for place, words in enumerate(said)
    ]
    return sum(values) / len(values)


def print_checker() -> None:
    print("captions | of them false | found | missed | wrongly objected | precision | recall | right subject named")
    for which in SETS:
        found = list(sentences(which))
        print(f"{which} set: {len(found)} | {_row(found)}")
    everything = [sentence for which in SETS for sentence in sentences(which)]
    for subject in sorted({sentence.subject for sentence in everything if sentence.label == "false"}):
        of_subject = [sentence for sentence in everything if sentence.subject == subject]
        print(f"{subject}: {len(of_subject)} | {_row(of_subject)}")
    for sentence in everything:
        if not sentence.is_right:
            print(f"  not as labelled ({sentence.label}): {sentence.text} {sorted(sentence.subjects) or ''}")


def _row(found: list[Sentence]) -> str:
    result = score(found)
    named = sum(s.subject in s.subjects for s in found if s.label == "false")
    false = result.found + result.missed
    counts = f"{false} | {result.found} | {result.missed} | {result.wrongly}"
    return f"{counts} | {result.precision:.3f} | {result.recall:.3f} | {named} of {result.found}"


def print_diversity(writers: dict[str, Write]) -> None:
    of_one = list(clips().values())
    rng = random.Random(1)
    of_many = [drawn(rng) for _ in range(CLIPS)]
    print(f"captions by | {PER_CLIP} of one clip: distinct-1 | distinct-2 | self-BLEU | one of {CLIPS}: the same three")
    for name, write in writers.items():
        sets = [write(facts, PER_CLIP, seed) for seed, facts in enumerate(of_one)]
        many = [write(facts, 1, seed)[0] for seed, facts in enumerate(of_many)]
        one = [sum(map(score_of, sets)) / len(sets) for score_of in SCORES]
        values = [f"{value:.3f}" for value in (*one, *(score_of(many) for score_of in SCORES))]
        print(" | ".join([name, *values]))


SCORES: tuple[Callable[[Sequence[str]], float], ...] = (
    lambda captions: distinct(captions, 1),
    lambda captions: distinct(captions, 2),
    self_bleu,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", default="", metavar="URL", help="base URL with /v1 of a language model")
    parser.add_argument("--model", default="", metavar="NAME", help="its name there")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # BLEU of captions under four words is smoothed, and says so each time
    print_checker()
    writers: dict[str, Write] = {"template": lambda facts, count, _: [template(facts)] * count}
    writers |= {f"grammar, {style}": by(Grammar(), style) for style in Style}
    if given.vllm:
        model = Vllm(Endpoint(given.vllm, given.model))
        writers |= {f"{given.model}, {style}": by(model, style) for style in sorted(model.styles)}
    print()
    print_diversity(writers)


if __name__ == "__main__":
    main()

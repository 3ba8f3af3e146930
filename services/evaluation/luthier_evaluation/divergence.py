"""KL_passt and the CLAP score, from what the embedders give, as stable-audio-metrics defines them."""

from typing import Final

import numpy as np

from luthier_evaluation.embedders.base import Floats

REFERENCE_FLOOR: Final = 1e-6
"""Added to each probability of the reference, so that one of 0 gives no infinity."""


def probabilities(logits: Floats) -> Floats:
    """Of a piece of audio the probability of each class (classes,), from the logits of its windows (windows, classes):
    their mean, then softmax.

    The classes of AudioSet do not exclude each other; softmax over them is how the metric was defined (Kreuk et al.
    2022, AudioGen).
    """
    mean = np.asarray(logits, np.float64).mean(axis=0)
    powers = np.exp(mean - mean.max())
    shares: Floats = powers / powers.sum()
    return shares


def kl_of(generated: Floats, reference: Floats) -> float:
    """Divergence of the generated audio from its reference, in nats, from the logits of both (windows, classes).

    The sum of p log(p / (q + REFERENCE_FLOOR)) over classes, p of the generated audio, q of the reference: KL(generated
    || reference), which can be below 0 by as much as the floor adds. The score of a system is the mean over its pairs.
    """
    p, q = probabilities(generated), probabilities(reference)
    if p.shape != q.shape:
        raise ValueError(f"generated and reference must have the same classes, got {p.size} and {q.size}")
    held = p > 0  # 0 log 0 = 0
    return float((p[held] * (np.log(p[held]) - np.log(q[held] + REFERENCE_FLOOR))).sum())


def clap_score(audio: Floats, texts: Floats) -> float:
    """Mean cosine between vectors of audio and of the texts that asked for it (pairs, dimensions) each, -1 to 1.

    ValueError where there are no pairs.
    """
    if audio.shape != texts.shape or not len(audio):
        raise ValueError(f"audio and texts must be pairs, got {audio.shape} and {texts.shape}")
    sound, words = np.asarray(audio, np.float64), np.asarray(texts, np.float64)
    lengths = np.linalg.norm(sound, axis=1) * np.linalg.norm(words, axis=1)
    return float(((sound * words).sum(axis=1) / np.maximum(lengths, 1e-8)).mean())

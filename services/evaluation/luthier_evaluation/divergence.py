"""How far a tagger hears something else in generated audio than in the audio that its prompt describes."""

from typing import Final

import numpy as np

from luthier_evaluation.embedders.base import Floats

ADDED: Final = 1e-6  # to each probability of the reference, as stable-audio-metrics adds it


def kl_of(generated: Floats, reference: Floats) -> float:
    """KL(generated || reference) in nats, of logits (windows, classes): their mean over the windows, then softmax."""
    one, other = (_softmax(logits.astype(np.float64).mean(axis=0)) for logits in (generated, reference))
    return float((one * (np.log(one + ADDED) - np.log(other + ADDED))).sum())


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max())
    return np.asarray(raised / raised.sum())

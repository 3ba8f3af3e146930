"""KL_passt and the CLAP score: closed forms, scipy's relative entropy, the figures in stable-audio-metrics' test."""

import numpy as np
import pytest
from scipy.special import rel_entr

from luthier_evaluation.divergence import clap_score, kl_of


def logits_of(shares: list[float]) -> np.ndarray:
    return np.log(np.array([shares], np.float32))


@pytest.mark.parametrize(
    ("generated", "reference", "expected"),
    [  # src/test_kld.py of stable-audio-metrics
        (
            [0.05, 0.1, 0.2, 0.05, 0.15, 0.25, 0.08, 0.12],
            [0.3, 0.1, 0.2, 0.1, 0.1, 0.02, 0.08, 0.1],
            0.5898663401603699,
        ),
        ([0.10, 0.40, 0.50], [0.80, 0.15, 0.05], 1.335667371749878),
    ],
)
def test_the_divergence_is_that_of_stable_audio_metrics(
    generated: list[float], reference: list[float], expected: float
) -> None:
    assert kl_of(logits_of(generated), logits_of(reference)) == pytest.approx(expected, abs=1e-6)


def test_the_divergence_is_of_the_generated_from_the_reference() -> None:
    p, q = np.array([0.9, 0.1]), np.array([0.5, 0.5])

    found = kl_of(logits_of([0.9, 0.1]), logits_of([0.5, 0.5]))

    assert found == pytest.approx(rel_entr(p, q).sum(), abs=1e-5)
    assert found != pytest.approx(rel_entr(q, p).sum(), abs=1e-2)


def test_logits_are_averaged_before_the_softmax() -> None:
    windows = np.array([[4.0, 0.0], [0.0, 0.0]], np.float32)  # mean 2, 0
    p = np.exp([2.0, 0.0]) / np.exp([2.0, 0.0]).sum()

    found = kl_of(windows, np.zeros((3, 2), np.float32))

    assert found == pytest.approx(rel_entr(p, [0.5, 0.5]).sum(), abs=1e-5)


def test_a_class_that_the_reference_rules_out_has_a_finite_divergence() -> None:
    found = kl_of(np.array([[0.0, -200.0]], np.float32), np.array([[-200.0, 0.0]], np.float32))

    assert found == pytest.approx(-np.log(1e-6), rel=1e-6)  # log(1 / (0 + 1e-6))


def test_order_of_windows_changes_nothing() -> None:
    logits = np.random.default_rng(1).standard_normal((7, 527)).astype(np.float32)

    assert kl_of(logits[::-1], logits) == pytest.approx(kl_of(logits, logits), abs=1e-9)
    assert abs(kl_of(logits, logits)) < 1e-3  # what 1e-6 on each of 527 classes makes


def test_the_clap_score_is_the_mean_cosine() -> None:
    audio = np.array([[1, 0], [3, 4], [0, 2]], np.float32)
    texts = np.array([[2, 0], [4, 3], [0, -1]], np.float32)

    assert clap_score(audio, texts) == pytest.approx((1 + 24 / 25 - 1) / 3, abs=1e-7)


def test_what_are_no_pairs_has_no_score() -> None:
    with pytest.raises(ValueError, match="pairs"):
        clap_score(np.zeros((0, 512), np.float32), np.zeros((0, 512), np.float32))
    with pytest.raises(ValueError, match="same classes"):
        kl_of(np.zeros((1, 527), np.float32), np.zeros((1, 50), np.float32))

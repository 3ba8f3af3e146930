"""The checker on captions that were labelled by hand: what its README states of precision and recall holds."""

from collections import Counter

import pytest

from .labelled import SETS, score, sentences


@pytest.mark.parametrize(("which", "precision", "recall"), [("first", 0.97, 0.99), ("second", 0.92, 0.96)])
def test_precision_and_recall_of_finding_what_is_false(which: str, precision: float, recall: float) -> None:
    found = score(list(sentences(which)))
    assert found.precision >= precision
    assert found.recall >= recall


def test_the_set_holds_two_hundred_sentences_and_more_of_every_label() -> None:
    found = [sentence for which in SETS for sentence in sentences(which)]
    labels = Counter(sentence.label for sentence in found)
    assert len({(sentence.clip, sentence.text) for sentence in found}) == len(found) >= 400
    assert min(labels.values()) >= 50


@pytest.mark.parametrize("which", SETS)
def test_most_objections_are_to_the_subject_that_is_false(which: str) -> None:
    objected = [s for s in sentences(which) if s.label == "false" and s.subjects]
    named = [s for s in objected if s.subject in s.subjects]
    assert len(named) / len(objected) >= 0.95

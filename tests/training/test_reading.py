"""A small text encoder learns to read numbers that its data set does not hold."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, T5EncoderModel

from luthier_model.tiny import write_text_encoder
from luthier_training.recipes import reading

PROMPTS = [
    f"A {mood} {genre} tune at {bpm} BPM."
    for mood in ("calm", "loud")
    for genre in ("rock", "jazz")
    for bpm in (80, 120)
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As a run has: more cost a small model more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def losses_of(folder: Path, steps: int) -> list[float]:
    losses: list[float] = []

    def report(_: int, loss: float) -> bool:
        losses.append(loss)
        return True

    write_text_encoder(PROMPTS, 64, folder, seed=1)
    assert reading.train(folder, PROMPTS, steps, 1, report)
    return losses


def states(folder: Path, texts: list[str]) -> torch.Tensor:
    tokens = AutoTokenizer.from_pretrained(folder)(texts, return_tensors="pt", padding=True)
    encoder = T5EncoderModel.from_pretrained(folder).eval()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return reading.pooled(encoder(**tokens).last_hidden_state, tokens["attention_mask"])


def test_the_loss_falls(tmp_path: Path) -> None:
    losses = losses_of(tmp_path, 120)
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


def test_a_varied_prompt_keeps_one_tempo_and_has_other_words() -> None:
    draw = random.Random(1)
    drawn = [reading.varied("A calm rock tune at 80 BPM, with piano.", draw) for _ in range(300)]
    tempi = [reading.TEMPO.findall(text) for text in drawn]
    assert all(len(found) == 1 and reading.LOW_BPM <= int(found[0]) <= reading.HIGH_BPM for found in tempi)
    assert len({found[0] for found in tempi}) > 80
    assert any("piano" not in text for text in drawn)
    assert any(word in text for text in drawn for word in ("samba", "cello", "melancholic"))


def test_the_same_seed_gives_the_same_encoder(tmp_path: Path) -> None:
    assert losses_of(tmp_path / "a", 3) == losses_of(tmp_path / "b", 3)
    one, other = (states(tmp_path / name, PROMPTS[:1]) for name in ("a", "b"))
    assert torch.equal(one, other)


def test_it_stops_when_asked_to(tmp_path: Path) -> None:
    write_text_encoder(PROMPTS, 64, tmp_path, seed=1)
    assert not reading.train(tmp_path, PROMPTS, 5, 1, lambda step, _: step < 2)


def test_prompts_without_a_tempo_teach_words(tmp_path: Path) -> None:
    write_text_encoder(["calm piano", "loud drums"], 64, tmp_path, seed=1)
    assert reading.train(tmp_path, ["calm piano", "loud drums"], 3, 1, lambda *_: True)


def test_words_that_all_or_hardly_any_prompts_hold_tell_nothing() -> None:
    prompts = [f"a tune of {'rock' if number % 2 else 'jazz'} {number}" for number in range(300)] + ["a tune of polka"]
    assert reading.vocabulary(prompts) == ["jazz", "rock"]


def test_waves_tell_tempi_apart_that_accuracy_tells_apart() -> None:
    at = reading.waves([75, 78, 160])
    assert (at[0] - at[1]).norm() > 0.5
    assert (at[0] - at[1]).norm() < (at[0] - at[2]).norm()

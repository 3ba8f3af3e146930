"""Teaches a small text encoder to read, from text alone: what a pretrained T5 knows of numbers and words, a random one
does not, and a transformer that must learn it from audio needs many times the steps.

The mean of the encoder's states must tell the tempo that a prompt states, as sines and cosines of its logarithm, so
that near tempi look alike; and which of the common words stand in it. Tempi are replaced by random ones, words are left
out and words of music that the data set lacks put in: so every number from LOW_BPM to HIGH_BPM is read, whatever stands
around it. No audio and no fact of a clip is seen: the prompt is question and answer.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import AutoTokenizer, T5EncoderModel

from luthier_music.instruments import PROGRAM_NAMES
from luthier_music.vocabulary import GENRE_WORDS, MOOD_WORDS

LOW_BPM, HIGH_BPM = 60, 200
OCTAVES = math.log2(HIGH_BPM / LOW_BPM)
WAVES = 16
"""Sines and as many cosines; the finest tells tempi apart that are 4 % from each other."""
COMMON = 0.01
"""Share of the prompts from which on a word is common."""
LEFT_OUT, PUT_IN = 0.25, 6
"""Share of the words that a varied prompt lacks; the most that it has besides."""
FILLING = "a,an,the,of,with,and,in,on,by,for,song,piece,tune,groove,solo,style,feel,bright,slow,fast,loud,soft"
FOREIGN = sorted(
    {*GENRE_WORDS, *MOOD_WORDS, *FILLING.split(",")} | {word for name in PROGRAM_NAMES for word in name.lower().split()}
)
"""Words that are put in: genres, moods, instruments, and what stands between them."""
BATCH, PEAK_RATE, WARMUP_STEPS = 32, 2e-3, 50
MAX_TOKENS = 64
TEMPO = re.compile(r"\d{2,3}(?= (?:BPM|beats per minute))", re.IGNORECASE)
TEMPO_PHRASE = re.compile(TEMPO.pattern + r" (?:BPM|beats per minute)", re.IGNORECASE)
WORD = re.compile(r"[a-z#&]+")


def train(folder: Path, prompts: Sequence[str], steps: int, seed: int, report: Callable[[int, float], bool]) -> bool:
    """Trains the encoder in `folder` in place; `report(steps done, loss)` says whether to go on, False when it said no.

    Deterministic by seed. Leaves the tokenizer as it is.
    """
    torch.manual_seed(seed)
    draw = random.Random(seed)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    encoder = T5EncoderModel.from_pretrained(folder, local_files_only=True).train()
    texts, words = sorted(set(prompts)), vocabulary(prompts)
    width = encoder.config.d_model
    tempo, spoken = nn.Linear(width, 2 * WAVES), nn.Linear(width, len(words))
    parameters = [*encoder.parameters(), *tempo.parameters(), *spoken.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=PEAK_RATE, weight_decay=1e-2)
    for step in range(steps):
        for group in optimizer.param_groups:  # linear warm-up, then half a cosine
            warm = min(1.0, (step + 1) / WARMUP_STEPS)
            group["lr"] = PEAK_RATE * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
        batch = [varied(text, draw) for text in draw.choices(texts, k=BATCH)]
        tokens = tokenizer(batch, return_tensors="pt", padding=True, truncation=True, max_length=MAX_TOKENS)
        mean = pooled(encoder(**tokens).last_hidden_state, tokens["attention_mask"])
        asked = [_tempo(text) for text in batch]
        stated = torch.tensor([value is not None for value in asked])
        error = (tempo(mean) - waves([value or LOW_BPM for value in asked])).square().mean(dim=1)
        held = [set(WORD.findall(text.lower())) for text in batch]
        present = torch.tensor([[word in of for word in words] for of in held])
        loss = error[stated].mean() if stated.any() else error.sum() * 0.0
        loss = loss + nn.functional.binary_cross_entropy_with_logits(spoken(mean), present.float())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        if not report(step + 1, float(loss.detach())):
            return False
    encoder.eval().save_pretrained(folder)
    return True


def pooled(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(batch, tokens, width) and (batch, tokens) -> the mean of the states where there is a token, (batch, width)."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1.0)


def waves(tempi_bpm: Sequence[float]) -> torch.Tensor:
    """(tempi, 2 WAVES): sines and cosines of the tempo's place between LOW_BPM and HIGH_BPM on a logarithmic scale."""
    place = torch.log2(torch.tensor(tempi_bpm) / LOW_BPM) / OCTAVES
    turns = torch.arange(1, WAVES + 1)[None] * place[:, None] * (math.pi / 2)
    return torch.cat([turns.sin(), turns.cos()], dim=1)


def vocabulary(prompts: Sequence[str]) -> list[str]:
    """The words that many of the prompts hold, but not all."""
    texts = sorted(set(prompts))
    held = Counter(word for text in texts for word in set(WORD.findall(text.lower())))
    return sorted(word for word, count in held.items() if COMMON * len(texts) <= count < len(texts)) or ["bpm"]


def _tempo(text: str) -> float | None:
    found = TEMPO.search(text)
    return float(found[0]) if found else None


def varied(text: str, draw: random.Random) -> str:
    """The prompt with another tempo, a part of its words and some that are not its own; half of the time as it is but
    for the tempo."""
    text = TEMPO.sub(str(draw.randint(LOW_BPM, HIGH_BPM)), text)
    if draw.random() < 0.5:
        return text
    found = TEMPO_PHRASE.search(text)
    parts = [text] if found is None else [text[: found.start()], found[0], text[found.end() :]]
    pieces = [
        part if found and number == 1 else " ".join(word for word in part.split() if draw.random() >= LEFT_OUT)
        for number, part in enumerate(parts)
    ]
    for _ in range(draw.randint(0, PUT_IN)):
        place = draw.choice((0, len(pieces)))
        pieces.insert(place, draw.choice(FOREIGN))
    return " ".join(piece for piece in pieces if piece)

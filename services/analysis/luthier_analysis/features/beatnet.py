"""Beats and downbeats by BeatNet (Heydari, Cwitkowitz and Duan, ISMIR 2021), an extra of this project: it brings torch.

Of its package only a file of weights is read (CC-BY-4.0), as tensors and after its digest was checked: its own modules
want PyAudio, madmom and numba. The network is built here, from its description; so is the log spectrogram that it was
trained on (that of madmom, Böck et al. 2016) and the dynamic Bayesian network that follows it (Krebs, Böck and Widmer
2015, with the defaults of madmom's DBNDownBeatTracker), with the tempi of all meters side by side.
"""

import io
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np

from luthier_analysis.extra import BEATNET, NoEstimate, identity, shipped
from luthier_analysis.facts import Beats
from luthier_analysis.sound import ESSENTIA_RATE_HZ, Sound
from luthier_music.audio_rate import resampled

WEIGHTS: Final = "BeatNet/models/model_1_weights.pt"  # the one trained on everything but GTZAN, its authors' default
WEIGHTS_SHA256: Final = "619091bc317ca3e83b45591d46f6de3d5a41588bcb39fe9fe7be30cffa6aca84"

RATE_HZ: Final = 22_050
FRAME, HOP = 1411, 441  # samples: 64 and 20 ms
FPS: Final = RATE_HZ / HOP
BANDS_PER_OCTAVE, MIN_HZ, MAX_HZ, REFERENCE_HZ = 24, 30.0, 17_000.0, 440.0
LEVEL: Final = 10 ** (-16 / 20)  # RMS that it listens at, of mastered music: at -50 dBFS it misses a third of the beats
HIDDEN: Final = 150  # cells of each of the two LSTM layers
BLOCK: Final = 1024  # frames at a time, so that memory stays small for long songs

MIN_BPM, MAX_BPM = 55.0, 215.0
METERS: Final = (2, 3, 4)  # beats in a bar
TEMPO_LAMBDA: Final = 100.0  # how unlikely a change of tempo from one beat to the next is
OBSERVATION_LAMBDA: Final = 16  # the first 1/16 of a beat is the beat
MIN_ACTIVATION: Final = 0.05  # what lies before the first and after the last frame of more has no beats


def beats(sound: Sound) -> Beats | None:
    """Beats, the first of each bar marked; None where nothing is like a beat. Raises NoEstimate.

    The confidence is the mean activation at the beats. Ask only for what has a pulse: noise is heard as downbeats.
    """
    signal = resampled(sound.mono, ESSENTIA_RATE_HZ, RATE_HZ)
    level = np.sqrt(np.mean(np.square(signal, dtype=np.float64)))
    if not level > 0:
        return None
    likely = activations(log_spectra(signal * np.float32(LEVEL / level)))
    frames, numbers = decoded(likely)
    if not len(frames):
        return None
    times_s = np.minimum(frames / FPS, sound.duration_s)
    name, confidence = f"beatnet/{identity(BEATNET)}", float(likely[frames].max(axis=1).mean())
    return Beats(tuple(times_s.tolist()), tuple((numbers == 0).tolist()), name, name, confidence)


def log_spectra(signal: np.ndarray) -> np.ndarray:
    """(n,) samples at RATE_HZ to (frames, 272): log10(1 + magnitude) of 136 bands, and how much each has risen."""
    padded = np.pad(signal.astype(np.float32), (FRAME // 2, FRAME))
    count = -(-len(signal) // HOP)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP][:count]
    window, bands = np.hanning(FRAME).astype(np.float32), _bands()
    spectra = np.empty((count, bands.shape[1]), np.float32)
    for first in range(0, count, BLOCK):
        block = np.fft.rfft(frames[first : first + BLOCK] * window, axis=1)[:, : len(bands)]
        spectra[first : first + BLOCK] = np.log10(1 + np.abs(block) @ bands)
    risen = np.maximum(np.diff(spectra, axis=0, prepend=spectra[:1]), 0)
    return np.concatenate([spectra, risen], axis=1)


@cache
def _bands() -> np.ndarray:
    """(705 bins, 136): triangles between semitones' halves, each bin once, of unit area."""
    bins = FRAME // 2
    hertz = np.arange(bins) * RATE_HZ / (2 * bins)
    steps = BANDS_PER_OCTAVE * np.log2(np.array([MIN_HZ, MAX_HZ]) / REFERENCE_HZ)
    centres = REFERENCE_HZ * 2 ** (np.arange(np.ceil(steps[0]), np.floor(steps[1]) + 1) / BANDS_PER_OCTAVE)
    above = np.clip(np.searchsorted(hertz, centres), 1, bins - 1)
    nearest = np.unique(above - (centres - hertz[above - 1] < hertz[above] - centres))
    columns = []
    for start, middle, end in zip(nearest, nearest[1:], nearest[2:], strict=False):
        centre, stop = (middle, end) if end - start >= 2 else (start, start + 1)
        column = np.zeros(bins, np.float32)
        column[start:centre] = np.linspace(0, 1, centre - start, endpoint=False)
        column[centre:stop] = np.linspace(1, 0, stop - centre, endpoint=False)
        columns.append(column / column.sum())
    return np.stack(columns, axis=1)


def activations(spectra: np.ndarray) -> np.ndarray:
    """(frames, 2): how likely each frame is a beat that begins no bar, and one that does. Raises NoEstimate."""
    torch, layers = _network()
    with torch.inference_mode():
        blocks = []
        for block in torch.from_numpy(spectra)[:, None].split(BLOCK):  # (frames, 1, 272)
            x = torch.nn.functional.max_pool1d(torch.relu(layers["conv1"](block)), 2)  # (frames, 2, 131)
            blocks.append(layers["linear0"](x.flatten(1)))  # (frames, 150)
        x, _ = layers["lstm"](torch.cat(blocks)[None])  # no state is kept from one sound to the next
        return torch.softmax(layers["linear"](x[0]), dim=1)[:, :2].numpy()  # type: ignore[no-any-return]


@cache
def _network() -> tuple[Any, Any]:
    """torch, and the layers with their weights."""
    try:
        import torch
    except ImportError as error:
        raise NoEstimate("the extra 'beatnet' is not installed") from error
    data = shipped(BEATNET, WEIGHTS, WEIGHTS_SHA256)
    layers = torch.nn.ModuleDict(
        {
            "conv1": torch.nn.Conv1d(1, 2, 10),
            "linear0": torch.nn.Linear(2 * 131, HIDDEN),
            "lstm": torch.nn.LSTM(HIDDEN, HIDDEN, num_layers=2, batch_first=True),
            "linear": torch.nn.Linear(HIDDEN, 3),
        }
    )
    layers.load_state_dict(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
    return torch, layers.eval()


@dataclass(frozen=True)
class _States:
    """Where in a beat one can be, and how fast: for each tempo one state per frame of a beat, tempi one after another.

    `first`, `last`: (tempi,) its states at a beat's start and end. `is_beat`: (states,) whether it is the beat itself.
    `log_changes`: (tempi, tempi) from one beat's tempo (row) to the next one's.
    """

    first: np.ndarray
    last: np.ndarray
    is_beat: np.ndarray
    log_changes: np.ndarray


@cache
def _states() -> _States:
    intervals = np.arange(round(60 * FPS / MAX_BPM), round(60 * FPS / MIN_BPM) + 1)  # frames per beat
    first = np.concatenate([[0], np.cumsum(intervals)[:-1]])
    place = np.concatenate([np.arange(interval) / interval for interval in intervals])
    changes = np.exp(-TEMPO_LAMBDA * np.abs(intervals[None, :] / intervals[:, None] - 1))
    changes[changes <= np.spacing(1)] = 0
    with np.errstate(divide="ignore"):
        log_changes = np.log(changes / changes.sum(axis=1, keepdims=True))
    return _States(first, first + intervals - 1, place < 1 / OBSERVATION_LAMBDA, log_changes)


def decoded(likely: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest beats: frames, and the number of each in its bar from 0 on; both empty where there is none.

    Viterbi's algorithm over the beats of all METERS at once, (beats, states); then the best meter's path back. Inside
    a beat a state has one predecessor: only where beats start is it kept which one it was.
    """
    loud = np.flatnonzero(likely.max(axis=1, initial=0.0) >= MIN_ACTIVATION)
    if not len(loud):
        return np.empty(0, int), np.empty(0, int)
    offset, likely = int(loud[0]), likely[loud[0] : loud[-1] + 1]
    states = _states()
    number = np.concatenate([np.arange(meter) for meter in METERS])  # of each beat in its bar
    before = np.arange(len(number)) - 1
    before[number == 0] += METERS  # a bar follows its own kind
    smallest = np.finfo(float).tiny
    log_beat = np.log(np.maximum(likely, smallest))  # (frames, 2): beat, downbeat
    log_rest = np.log(np.maximum(1 - likely.sum(axis=1), smallest) / (OBSERVATION_LAMBDA - 1))
    best = np.full((len(number), len(states.is_beat)), -np.log(len(number) * len(states.is_beat)))
    came_from = np.empty((len(likely), len(number), len(states.first)), np.uint8)
    for frame in range(len(likely)):
        entering = best[np.ix_(before, states.last)][:, :, None] + states.log_changes  # (beats, from tempo, to tempo)
        came_from[frame] = entering.argmax(axis=1)
        best[:, 1:] = best[:, :-1].copy()
        best[:, states.first] = entering.max(axis=1)
        best += np.where(states.is_beat, log_beat[frame, (number == 0).astype(int)][:, None], log_rest[frame])
    beat, state = (int(index) for index in np.unravel_index(int(best.argmax()), best.shape))
    on_beat, beats_back = np.zeros(len(likely), bool), np.zeros(len(likely), int)
    for frame in range(len(likely) - 1, -1, -1):
        on_beat[frame], beats_back[frame] = states.is_beat[state], number[beat]
        tempo = int(np.searchsorted(states.first, state, side="right")) - 1
        if state == states.first[tempo]:
            state = int(states.last[came_from[frame, beat, tempo]])
            beat = int(before[beat])
        else:
            state -= 1
    edges = np.flatnonzero(np.diff(np.concatenate([[0], on_beat.astype(int), [0]])))
    peaks = [
        int(start + likely[start:end].max(axis=1).argmax()) for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]
    return np.array(peaks, int) + offset, beats_back[peaks]

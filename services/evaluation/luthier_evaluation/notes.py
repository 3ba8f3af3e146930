"""Notes of audio by basic-pitch (Bittner et al. 2022, "A lightweight instrument-agnostic model for polyphonic note
transcription and multipitch estimation", ICASSP), and what follows from them: pitch classes, the key, the range.

The network is the ONNX file that the package basic-pitch 0.4.0 ships (Apache-2.0); the package itself is not imported.
Windows, overlaps, thresholds and the making of notes from its two outputs are those of the package's defaults.

Two traps. The network levels its input, so that noise at -80 dB has notes like music at 0 dB: frames below a gate have
none here. A tone without its fundamental comes out an octave up: pitch classes are to be trusted, octaves less.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from luthier_evaluation.embedders.base import SILENT_BELOW, Floats
from luthier_kit.rpc import FailedPrecondition, InvalidRequest
from luthier_music.audio_rate import resampled
from luthier_music.keys import KeyFit, fit_key

TRANSCRIBER: Final = "basic-pitch/0.4.0"
PACKAGE: Final = "basic-pitch"
MODEL_FILE: Final = "basic_pitch/saved_models/icassp_2022/nmp.onnx"
MODEL_SHA256: Final = "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec"
"""Of the file in the package; another one is not run."""
MAX_MODEL_BYTES: Final = 8 << 20

SAMPLE_RATE_HZ: Final = 22_050
HOP_SAMPLES: Final = 256  # between frames of the outputs
WINDOW_SAMPLES: Final = 43_844  # two seconds less one hop
WINDOW_FRAMES: Final = 172
OVERLAP_FRAMES: Final = 30  # of neighbouring windows; half of them is dropped at each end
WINDOW_HOP_SAMPLES: Final = WINDOW_SAMPLES - OVERLAP_FRAMES * HOP_SAMPLES
WINDOWS_AT_ONCE: Final = 16
LOWEST_PITCH: Final = 21  # MIDI; the outputs are of the 88 keys of a piano
PITCHES: Final = 88
INPUT: Final = "serving_default_input_2:0"
NOTES_OUTPUT: Final = "StatefulPartitionedCall:1"
ONSETS_OUTPUT: Final = "StatefulPartitionedCall:2"
"""The order of the outputs in the file is another one than that of their numbers, so they are asked for by name."""

ONSET_THRESHOLD: Final = 0.5
FRAME_THRESHOLD: Final = 0.3
MIN_NOTE_FRAMES: Final = 11  # 127.7 ms; a note is longer
MAX_GAP_FRAMES: Final = 11  # that a note may be below the threshold before it has ended

MAX_SAMPLES: Final = SAMPLE_RATE_HZ * 3600
GATE_DBFS: Final = 20 * np.log10(SILENT_BELOW)
"""Root mean square around a frame, below which nothing is heard: that of audio which counts as silent."""
GATE_BELOW_LOUDEST_DB: Final = 50.0
"""Frames that are so much softer than the loudest have no notes either: tails and noise under music at its level."""
_LEVEL_HOPS: Final = 8  # of a frame's level: 93 ms


@dataclass(frozen=True)
class NoteEvent:
    """A note: from when to when in seconds, MIDI pitch 21 to 108, and the network's mean belief in it, 0 to 1."""

    onset_s: float
    end_s: float
    pitch: int
    amplitude: float

    @property
    def duration_s(self) -> float:
        return self.end_s - self.onset_s


class Transcriber:
    """The network, ready to listen. Many threads may call it at once.

    FailedPrecondition WEIGHTS_ABSENT where the package is not installed, WEIGHTS_INVALID where its file is another one.
    """

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # rows of an evaluation run side by side
        self._session = onnxruntime.InferenceSession(_model(), options, providers=["CPUExecutionProvider"])

    def notes(self, samples: Floats, sample_rate_hz: int) -> list[NoteEvent]:
        """The notes of samples (frames, 1..2), by onset, then pitch; none for silence.

        InvalidRequest for samples that are not finite or last more than an hour.
        """
        if samples.ndim != 2 or samples.shape[1] not in (1, 2) or len(samples) / sample_rate_hz > 3600:
            bound = f"must be (frames, 1 or 2), of at most an hour, got {samples.shape} at {sample_rate_hz} Hz"
            raise InvalidRequest(violations=[("samples", bound)])
        if not np.isfinite(samples).all():
            raise InvalidRequest("the audio holds NaN or infinity", reason="AUDIO_NOT_FINITE")
        if np.abs(samples).max(initial=0.0) < SILENT_BELOW:
            return []
        mono = resampled(samples.mean(axis=1, dtype=np.float32), sample_rate_hz, SAMPLE_RATE_HZ)
        sounding, onsets, times_s = self._heard(mono)
        audible = _audible(mono, times_s)
        sounding[~audible] = 0.0
        onsets[~audible] = 0.0
        return _events(sounding, onsets, times_s)

    def _heard(self, mono: Floats) -> tuple[Floats, Floats, NDArray[np.float64]]:
        """Belief that a pitch sounds, and that it begins, (frames, 88) each, and the frames' times in seconds.

        A window's frames say when they are by the window they are in: windows lie 141.3 frames apart, and 142 of each
        are kept.
        """
        half = OVERLAP_FRAMES // 2
        lead = half * HOP_SAMPLES
        count = max(1, -(-(len(mono) + lead) // WINDOW_HOP_SAMPLES))
        padded = np.zeros((count - 1) * WINDOW_HOP_SAMPLES + WINDOW_SAMPLES, np.float32)
        padded[lead : lead + len(mono)] = mono[: len(padded) - lead]
        windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[::WINDOW_HOP_SAMPLES]
        parts = [
            self._session.run([NOTES_OUTPUT, ONSETS_OUTPUT], {INPUT: np.ascontiguousarray(windows[at:to, :, None])})
            for at, to in ((at, at + WINDOWS_AT_ONCE) for at in range(0, count, WINDOWS_AT_ONCE))
        ]
        sounding, onsets = (
            np.concatenate([part[which][:, half:-half] for part in parts]).reshape(-1, PITCHES) for which in (0, 1)
        )
        frame = np.arange(half, WINDOW_FRAMES - half) * HOP_SAMPLES
        times = (np.arange(count)[:, None] * WINDOW_HOP_SAMPLES - lead + frame).reshape(-1) / SAMPLE_RATE_HZ
        inside = times < len(mono) / SAMPLE_RATE_HZ
        return sounding[inside], onsets[inside], times[inside]


@cache
def transcriber() -> Transcriber:
    """The one of this process."""
    return Transcriber()


def _model() -> bytes:
    try:
        found = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        text = f"notes are heard by the package {PACKAGE}, which is not installed"
        raise FailedPrecondition(text, reason="WEIGHTS_ABSENT") from None
    path = Path(str(found.locate_file(MODEL_FILE)))
    try:
        with path.open("rb") as file:
            content = file.read(MAX_MODEL_BYTES + 1)
    except OSError as error:
        text = f"{MODEL_FILE} of {PACKAGE} {found.version} cannot be read: {error.strerror}"
        raise FailedPrecondition(text, reason="WEIGHTS_ABSENT") from None
    if hashlib.sha256(content).hexdigest() != MODEL_SHA256:
        text = f"{MODEL_FILE} of {PACKAGE} {found.version} is another file than that of {TRANSCRIBER}"
        raise FailedPrecondition(text, reason="WEIGHTS_INVALID")
    return content


def _audible(mono: Floats, times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the audio around each time is above the gate."""
    sums = np.concatenate([[0.0], np.cumsum(np.square(mono, dtype=np.float64))])
    centres = np.rint(times_s * SAMPLE_RATE_HZ).astype(np.int64)
    reach = _LEVEL_HOPS * HOP_SAMPLES // 2
    first, last = np.clip(centres - reach, 0, len(mono)), np.clip(centres + reach, 0, len(mono))
    powers = (sums[last] - sums[first]) / np.maximum(last - first, 1)
    gate = max(10 ** (GATE_DBFS / 10), float(powers.max(initial=0.0)) * 10 ** (-GATE_BELOW_LOUDEST_DB / 10))
    loud: NDArray[np.bool_] = powers > gate
    return loud


def _events(sounding: Floats, onsets: Floats, times_s: NDArray[np.float64]) -> list[NoteEvent]:
    """Notes from the two outputs, as published: from each peak of the onsets, the last first, until its pitch has gone;
    then from what is loudest of the rest, both ways, until nothing is left. What a note took, and its two neighbours in
    pitch, makes no further note.
    """
    frames = len(sounding)
    if frames < 3:
        return []
    begins = _begins(sounding, onsets)
    left = sounding.copy()
    found: list[NoteEvent] = []

    def keep(first: int, end: int, pitch: int) -> None:
        left[first:end, max(0, pitch - 1) : pitch + 2] = 0.0
        if end - first > MIN_NOTE_FRAMES:
            amplitude = float(sounding[first:end, pitch].mean())
            found.append(NoteEvent(float(times_s[first]), float(times_s[end]), LOWEST_PITCH + pitch, amplitude))

    peaks = np.zeros(onsets.shape, dtype=bool)
    peaks[1:-1] = (begins[1:-1] > begins[:-2]) & (begins[1:-1] > begins[2:]) & (begins[1:-1] >= ONSET_THRESHOLD)
    for first, pitch in reversed(np.argwhere(peaks).tolist()):
        end = first + 1 + _lasts(left[first + 1 : frames - 1, pitch])
        if end - first > MIN_NOTE_FRAMES:
            keep(first, end, pitch)
    while left.size and left.max() > FRAME_THRESHOLD:
        middle, pitch = divmod(int(left.argmax()), PITCHES)
        end = middle + 1 + _lasts(left[middle + 1 : frames - 1, pitch])
        first = middle - _lasts(left[1:middle, pitch][::-1])
        left[middle, pitch] = 0.0
        keep(first, end, pitch)
    return sorted(found, key=lambda note: (note.onset_s, note.pitch))


def _begins(sounding: Floats, onsets: Floats) -> Floats:
    """The onsets that the network heard, or that a rise of a pitch's belief over one and two frames tells, whichever is
    more; rises are scaled to the same maximum.
    """
    rises = np.zeros_like(sounding)
    rises[2:] = np.maximum(0.0, np.minimum(sounding[2:] - sounding[1:-1], sounding[2:] - sounding[:-2]))
    highest = float(rises.max(initial=0.0))
    if highest > 0.0:
        rises *= float(onsets.max()) / highest
    begins: Floats = np.maximum(onsets, rises)
    return begins


def _lasts(belief: Floats) -> int:
    """For how many frames a pitch goes on: until MAX_GAP_FRAMES in a row are below the threshold, which do not count,
    or the end, without what is below it there.
    """
    on = np.flatnonzero(belief >= FRAME_THRESHOLD)
    edges = np.concatenate([[-1], on])
    gaps = np.flatnonzero(np.diff(edges) > MAX_GAP_FRAMES)
    return int(edges[gaps[0]] if len(gaps) else edges[-1]) + 1


def pitch_classes(notes: Sequence[NoteEvent]) -> NDArray[np.float64]:
    """For how many seconds each pitch class sounds (12, C first); notes that sound together count each."""
    profile = np.zeros(12)
    for note in notes:
        profile[note.pitch % 12] += note.duration_s
    return profile


def key_by_notes(notes: Sequence[NoteEvent]) -> KeyFit | None:
    """The key that fits the notes best, by the profiles that find the key of MIDI files. None where they tell none."""
    return fit_key(pitch_classes(notes).tolist())

"""A generation as the device does it: it begins, takes passes of the network, and is decoded in pieces.

Nothing is computed but by `begin`, `passed` and `decode`, which the scheduler's thread calls.
"""

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from luthier_model.adapter_mix import AdapterMix
from luthier_model.configuration import Configuration
from luthier_model.generation import (
    Denoising,
    GenerationParameters,
    LoadedModel,
    Samples,
    evaluate,
    evaluations_of,
    pieces,
    pieces_of,
)

OnStep = Callable[[int, int, float], None]
"""Told the steps done, those in all and the noise level reached, by the scheduler's thread: it must not wait."""


OnPiece = Callable[[Samples], None]
"""Given the audio (samples, channels) piece by piece, as it is decoded, likewise."""


class Stage(enum.Enum):
    """What a request needs next."""

    BEGIN = enum.auto()
    DENOISE = enum.auto()
    DECODE = enum.auto()
    DONE = enum.auto()


@dataclass(frozen=True)
class Amount:
    """Of work on the device: prompts to encode, rows of the network to evaluate, pieces of audio to decode."""

    begins: float
    rows: float
    pieces: float


def rows_of(parameters: GenerationParameters) -> int:
    """Rows of the network in a pass: guidance takes two."""
    return 1 if parameters.guidance_scale == 1.0 else 2


def amount_of(configuration: Configuration, parameters: GenerationParameters) -> Amount:
    """All that a request takes."""
    return Amount(1, evaluations_of(parameters) * rows_of(parameters), pieces_of(configuration, parameters))


class Costs:
    """Seconds that a model's work takes on this device, as measured so far: moving averages."""

    NEW_SHARE: Final = 0.2  # of a new measurement
    BEGIN_ROWS: Final = 1.0  # what encoding a prompt and
    PIECE_ROWS: Final = 2.0  # decoding a piece are taken to cost, in rows, until they were measured

    def __init__(self) -> None:
        self._each: dict[Stage, float] = {}

    def learn(self, stage: Stage, seconds: float, number: int = 1) -> None:
        """`number` prompts, rows or pieces took so long."""
        each = seconds / number
        before = self._each.get(stage, each)
        self._each[stage] = before + self.NEW_SHARE * (each - before)

    @property
    def known(self) -> bool:
        """Whether the network was measured yet."""
        return Stage.DENOISE in self._each

    def seconds(self, amount: Amount) -> float:
        """What so much work takes alone; 0 while nothing is known."""
        row_s = self._each.get(Stage.DENOISE, 0.0)
        begin_s = self._each.get(Stage.BEGIN, self.BEGIN_ROWS * row_s)
        piece_s = self._each.get(Stage.DECODE, self.PIECE_ROWS * row_s)
        return amount.begins * begin_s + amount.rows * row_s + amount.pieces * piece_s


class Work:
    """One request's way from its parameters to samples, on a model that is loaded."""

    def __init__(
        self,
        model: LoadedModel,
        parameters: GenerationParameters,
        init_audio: torch.Tensor | None = None,
        on_step: OnStep = lambda *_: None,
        mix: AdapterMix | None = None,
        on_piece: OnPiece = lambda _: None,
    ) -> None:
        self.model, self.parameters, self._mix = model.fitted(parameters), parameters, mix
        self.stage = Stage.BEGIN
        self._init_audio, self._on_step, self._on_piece = init_audio, on_step, on_piece
        self._told = 0
        self._denoising: Denoising | None = None
        self._pieces: Iterator[Samples] = iter(())
        self._samples: list[Samples] = []

    @property
    def group(self) -> tuple[int, int]:
        """Requests of one group can share a pass: the same model, as many latents."""
        return id(self.model.network), self.model.configuration.window_latents

    @property
    def samples(self) -> Samples:
        """The audio (samples, channels), once all is done."""
        return np.concatenate(self._samples)

    def left(self) -> Amount:
        """What is still to be done. Any thread may ask, also during a pass."""
        whole, denoising = amount_of(self.model.configuration, self.parameters), self._denoising
        if self.stage is Stage.BEGIN:
            return whole
        steps_left = denoising.total - denoising.steps_done if denoising else 0
        rows = whole.rows * steps_left / self.parameters.steps
        return Amount(0, rows, whole.pieces - len(self._samples))

    def begin(self) -> None:
        """Encodes the prompt and the audio to start from, draws the first noise."""
        self._denoising = Denoising(self.model, self.parameters, self._init_audio, self._mix)
        self._init_audio, self.stage = None, Stage.DENOISE

    def decode(self) -> None:
        """The next piece of audio. Raises OutputNotFinite."""
        self._samples.append(next(self._pieces))
        self._on_piece(self._samples[-1])
        if len(self._samples) == pieces_of(self.model.configuration, self.parameters):
            self.stage = Stage.DONE

    def passed(self) -> None:
        """After a pass: tells of a step that is done, goes on to the audio after the last."""
        denoising = self._denoising
        if self.stage is not Stage.DENOISE or denoising is None:
            return
        if denoising.steps_done > self._told:
            self._told = denoising.steps_done
            self._on_step(denoising.steps_done, denoising.total, denoising.sigma)
        if denoising.asked is None:
            self._pieces = pieces(self.model, self.parameters, denoising.latents)
            self._denoising, self.stage = None, Stage.DECODE

    @staticmethod
    def evaluate(together: "Sequence[Work]") -> None:
        """One pass of the network for all of these, which are of one group and at DENOISE. `passed` comes next."""
        evaluate([work._denoising for work in together if work._denoising])

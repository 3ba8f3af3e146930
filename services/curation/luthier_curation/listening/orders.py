"""Who hears what when: the steps of a session follow from its seed, and from nothing else.

Everything that is random is a sort by SHA-256 of seed, purpose and number: each order is as likely as any other, and
it is the same for ever, whatever release or machine a session is resumed on.

MUSHRA: trials in random order, the conditions of a trial in one random order for all its questions, a step for each
question. MOS: the sounds of all trials in random order, a step for each sound with all questions (P.800 rates each
sound on its own). Training comes first, in an order that is random likewise.
"""

import hashlib
import hmac
import string
from collections.abc import Iterable
from dataclasses import dataclass

from luthier.curation.v1.listening_pb2 import (
    LISTENING_KIND_MUSHRA,
    LISTENING_QUESTION_STEREO,
    KeptStimulus,
    ListeningPlan,
)

LABELS = string.ascii_uppercase  # of the conditions of a trial, at most ten


@dataclass(frozen=True)
class Step:
    """A page of a session: some conditions of a trial, by index, in the order shown, with a label each, and the
    questions (`ListeningQuestion`) about each of them."""

    trial: int
    conditions: tuple[int, ...]
    labels: tuple[str, ...]
    questions: tuple[int, ...]
    training: bool


def shuffled(seed: str, purpose: str, count: int) -> list[int]:
    """The numbers below `count` in the order of this seed and purpose."""

    def place(number: int) -> bytes:
        return hashlib.sha256(f"{seed}\0{purpose}\0{number}".encode()).digest()

    return sorted(range(count), key=place)


def steps_of(plan: ListeningPlan, seed: str) -> list[Step]:
    """All steps of a session in order."""
    of_kind = _mushra if plan.request.kind == LISTENING_KIND_MUSHRA else _mos
    return [
        step
        for training in (True, False)
        for step in of_kind(plan, [t for t, trial in enumerate(plan.trials) if trial.training == training], seed)
    ]


def asked(question: int, stimulus: KeptStimulus) -> bool:
    """Whether a question is about this sound: the stereo image is a matter of two channels."""
    return question != LISTENING_QUESTION_STEREO or stimulus.channels == 2


def _mushra(plan: ListeningPlan, trials: list[int], seed: str) -> Iterable[Step]:
    for trial in (trials[place] for place in shuffled(seed, "trials", len(trials))):
        stimuli = plan.trials[trial].stimuli
        order = shuffled(seed, f"conditions {trial}", len(stimuli))
        for question in plan.request.questions:
            shown = [(c, LABELS[slot]) for slot, c in enumerate(order) if asked(question, stimuli[c])]
            if shown:
                conditions, labels = zip(*shown, strict=True)
                yield Step(trial, conditions, labels, (question,), plan.trials[trial].training)


def _mos(plan: ListeningPlan, trials: list[int], seed: str) -> Iterable[Step]:
    sounds = [(trial, c) for trial in trials for c in range(len(plan.trials[trial].stimuli))]
    for trial, c in (sounds[place] for place in shuffled(seed, "sounds", len(sounds))):
        stimulus = plan.trials[trial].stimuli[c]
        if questions := tuple(q for q in plan.request.questions if asked(q, stimulus)):
            yield Step(trial, (c,), ("",), questions, plan.trials[trial].training)


def audio_token(seed: str, trial: int, condition: int | None) -> str:
    """The address of a sound for one session: the same sound has another one for everybody else, and the reference
    that is shown (None) another one than the hidden one."""
    name = f"{trial}/{'open' if condition is None else condition}"
    return hmac.new(seed.encode(), name.encode(), hashlib.sha256).hexdigest()[:32]

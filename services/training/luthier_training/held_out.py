"""Clips that a run validates with: the same ones from its first step to its last, whatever its stages train on."""

import math
from collections.abc import Callable, Sequence

from luthier.training.v1.training_pb2 import DatasetValidation, LossPoint, TrainingProgress
from luthier_training.checkpoints import Progress
from luthier_training.examples import Example

MAX_EXAMPLES = 256
"""Of a data set. The standard error of the mean is then a sixteenth of the spread over clips; more cost minutes."""


class HeldOut:
    """The validation clips of a run, by data set; `names` are those of the data sets."""

    def __init__(self, examples: Sequence[Example], names: Sequence[str]) -> None:
        self._names = names
        self._examples = [
            [each for each in examples if each.dataset == number][:MAX_EXAMPLES] for number in range(len(names))
        ]

    def measure(
        self, progress: Progress, noted: TrainingProgress, loss_of: Callable[[Sequence[Example]], float]
    ) -> float:
        """Measures each data set, appends the losses to the numbers of the run, and notes them by data set where there
        are several. Returns the mean over all clips: runs and steps are compared by it.
        """
        points = [LossPoint(step=progress.step, loss=loss_of(examples)) for examples in self._examples]
        weighted = [point.loss * len(examples) for point, examples in zip(points, self._examples, strict=True)]
        loss = math.fsum(weighted) / sum(map(len, self._examples))
        progress.validation.append(LossPoint(step=progress.step, loss=loss))
        if len(points) > 1:
            for number, point in enumerate(points):
                progress.by_dataset.setdefault(number, []).append(point)
        self.note(progress, noted)
        return loss

    def note(self, progress: Progress, noted: TrainingProgress) -> None:
        """Notes the losses so far, as a checkpoint holds them: the run may go on from one of another run."""
        by_name = [
            DatasetValidation(dataset=self._names[number], losses=losses)
            for number, losses in sorted(progress.by_dataset.items())
        ]
        del noted.validation_by_dataset[:], noted.validation[:], noted.training[:]
        noted.validation_by_dataset.extend(by_name)
        noted.validation.extend(progress.validation)
        noted.training.extend(progress.training)

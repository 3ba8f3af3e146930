"""The window of a run where it is not the base's. Free of torch: the service asks before it queues a run."""

import copy
import math

from luthier.training.v1.training_pb2 import FineTune
from luthier_kit.rpc import InvalidRequest
from luthier_model.configuration import MAX_WINDOW_LATENTS, Configuration, check
from luthier_model.errors import ConfigurationError

FIELD = "fine_tune.window_seconds"


def with_window(base: Configuration, asked: FineTune) -> Configuration:
    """The configuration to train with and to export: the base's, with the window that is asked for, rounded up to as
    many latents as its network takes.

    No weight depends on the window: rotary positions are computed, and convolutions take any length. What a model is
    told of seconds does: the library embeds seconds / max_val, and clamps what is longer. Another max_val would change
    what every trained embedding means, so a longer window is refused: InvalidRequest.
    """
    if not asked.window_seconds:
        return base
    step = base.downsampling_ratio * base.latents_step
    longest_s = min(base.seconds_max, MAX_WINDOW_LATENTS * base.downsampling_ratio / base.sample_rate_hz)
    if not asked.window_seconds <= longest_s:
        bound = f"must be at most {longest_s:g}, the longest sound that this base can tell from a shorter one"
        if longest_s < base.seconds_max:
            bound = f"must be at most {longest_s:g}, {MAX_WINDOW_LATENTS} latents of this base"
        raise InvalidRequest(violations=[(FIELD, f"{bound}, got {asked.window_seconds:g}")])
    document = copy.deepcopy(dict(base.document))
    document["sample_size"] = math.ceil(round(asked.window_seconds * base.sample_rate_hz) / step) * step
    try:
        return check(document)
    except ConfigurationError as error:
        raise InvalidRequest(violations=[(FIELD, f"leads to a configuration that cannot be: {error}")]) from None

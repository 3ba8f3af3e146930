"""Bounds and names that the contracts state and several services check."""

from typing import Final

MAX_PROMPT_CHARS: Final = 2000
"""`luthier.common.v1.Prompt.text`, and the prompts of requests."""
MAX_MIDI_BYTES: Final = 8 << 20
"""Longest MIDI file that is read, 8 MiB."""
TRAIN: Final = "train"
VALIDATION: Final = "validation"
TEST: Final = "test"
SPLITS: Final = (TRAIN, VALIDATION, TEST)
"""The splits of a data set."""

PORTS: Final = {
    "rendering": 7101,
    "analysis": 7102,
    "enrichment": 7103,
    "prompting": 7104,
    "curation": 7105,
    "training": 7106,
    "inference": 7107,
    "evaluation": 7108,
}
"""The port that each service listens on by default."""
METRICS_OFFSET: Final = 100
"""A service's metrics are that much above its port."""
WEB_PORTS: Final = {"curation": 7300, "inference": 7307}
"""The ports of the services that have a page."""

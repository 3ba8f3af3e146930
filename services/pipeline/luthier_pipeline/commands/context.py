"""What every command gets, and how it answers."""

import json
import sys
from argparse import Namespace
from dataclasses import dataclass
from typing import Any

from luthier_pipeline.place import Place

PATIENCE_S = 900.0  # a service that dies is restarted; the command waits for it


class UsageError(Exception):
    """An argument that cannot be meant; the command exits with 2."""


@dataclass
class Context:
    """The arguments, where everything is, and the result: text for people, or JSON on the last line."""

    arguments: Namespace
    place: Place

    def say(self, text: str) -> None:
        """A line for people, on standard error, so that `--json` stays alone on standard output."""
        print(text, file=sys.stderr, flush=True)

    def answer(self, document: dict[str, Any], text: str = "") -> None:
        """The result: with `--json` one line of JSON, else the text."""
        print(json.dumps(document, ensure_ascii=False) if self.arguments.json else text, flush=True)

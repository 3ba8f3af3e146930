"""What a conversion found and did, for people and for programs."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from luthier_model.conversion.layout import Layout, groups, part_of

NAMED: Final = 5
"""Names that are shown of many; the rest are counted."""
CONTAINERS: Final = {
    "lightning": "training checkpoint of Lightning",
    "state_dict": "checkpoint with a state_dict",
    "plain": "state_dict",
    "safetensors": "safetensors",
}


class ConversionError(Exception):
    """The file was not converted: `reason` in UPPER_SNAKE, a text for people, and what had been found by then."""

    def __init__(self, reason: str, text: str, report: "Report | None" = None) -> None:
        self.reason, self.report = reason, report
        super().__init__(printable(text))


@dataclass(frozen=True)
class Stored:
    """A tensor of a file: its number format by torch's name, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(map(int, self.shape)))  # JSON has lists


@dataclass(frozen=True)
class Found:
    """What is in a file. `updates` of its moving average: None without one, 0 when it was never updated."""

    path: str
    bytes: int
    sha256: str
    container: str
    step: int | None
    tensors: Mapping[str, Stored]
    entries: tuple[str, ...]
    layout: Layout
    updates: int | None

    def document(self) -> dict[str, Any]:
        """For JSON: groups of tensors for their names."""
        return {
            "path": self.path,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "container": self.container,
            "step": self.step,
            "wrapped": bool(self.layout.wrapper),
            "prefix": self.layout.wrapper or self.layout.added,
            "tensors": len(self.tensors),
            "parts": groups(map(part_of, self.layout.names)),
            "moving_average_updates": self.updates,
        }


@dataclass(frozen=True)
class Reshaped:
    """A tensor whose shape in the file is not the configuration's."""

    name: str
    found: tuple[int, ...]
    wanted: tuple[int, ...]


@dataclass
class Report:
    """A conversion: what was found (the checkpoint, then the autoencoder's file if there is one), chosen, left out;
    what is missing, unexpected or of another shape; how the file was read; what was written and what to type next.

    `notes` say in words which of the usual confusions were met. `dtypes` counts the tensors that were taken by their
    number format in the file; float32 is written.
    """

    found: list[Found] = field(default_factory=list)
    weights: str = ""
    autoencoder: str = ""
    dtypes: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    reshaped: list[Reshaped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    isolation: list[str] = field(default_factory=list)
    written: str = ""
    parameters: int = 0
    next: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """For JSON. Long lists are counted and their first few named."""
        return {
            "found": [found.document() for found in self.found],
            "weights": self.weights,
            "autoencoder": self.autoencoder,
            "dtypes": self.dtypes,
            "left_out": self.left_out,
            **{
                kind: {"count": len(names), "first": names[:NAMED]}
                for kind, names in (("missing", self.missing), ("unexpected", self.unexpected))
            },
            "wrong_shape": {"count": len(self.reshaped), "first": [asdict(each) for each in self.reshaped[:NAMED]]},
            "notes": self.notes,
            "isolation": self.isolation,
            "written": self.written,
            "parameters": self.parameters,
            "next": self.next,
        }

    def text(self) -> str:
        """The same as a table of two columns."""
        rows: list[tuple[str, str]] = []
        for found, what in zip(self.found, ("checkpoint", "autoencoder"), strict=False):
            step = "" if found.step is None else f", step {found.step}"
            rows.append((what, f"{found.path}, {size(found.bytes)}, sha256 {found.sha256[:16]}"))
            rows.append(
                ("", f"{CONTAINERS[found.container]}{step}, {len(found.tensors)} tensors, {_wrapped(found.layout)}")
            )
            rows.append(("", ", ".join(f"{n} {part}" for part, n in groups(map(part_of, found.layout.names)).items())))
        rows += [("weights", self.weights)] if self.weights else []
        rows += [("autoencoder", self.autoencoder)] if self.autoencoder else []
        if self.dtypes:
            rows.append(("precision", f"{_counts(self.dtypes)}; float32 is written"))
        rows += [("left out", _counts(self.left_out))] if self.left_out else []
        for what, names in (("missing", self.missing), ("unexpected", self.unexpected)):
            rows += [(what, some(names))] if names else []
        if self.reshaped:
            shapes = [f"{each.name} is {list(each.found)}, must be {list(each.wanted)}" for each in self.reshaped]
            rows.append(("wrong shape", some(shapes)))
        rows += [("note", note) for note in self.notes]
        rows += [("read", "; ".join(self.isolation))] if self.isolation else []
        rows += [("written", f"{self.written}, {self.parameters:,} parameters")] if self.written else []
        rows += [("next", command) for command in self.next]
        return "\n".join(f"{what:12} {printable(text)}" for what, text in rows)


def register_command(folder: Path, text_encoder: str) -> str:
    """What to type next. `text_encoder` is its name in the configuration."""
    words = ["luthier", "register", "NAME", "--weights", str(folder / "weights.safetensors")]
    words += ["--config", str(folder / "config.json"), "--text-encoder", f"FOLDER-OF-{text_encoder}"]
    return shlex.join(words)


def some(names: Sequence[str]) -> str:
    """`3: a, b, c`, or the first few of many."""
    more = f", and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)}: {', '.join(names[:NAMED])}{more}"


def size(count: float) -> str:
    """`4.9 GB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:g} bytes"


def printable(text: str) -> str:
    """Names come from the file: what does not print, such as a terminal's control characters, is escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _counts(counted: Mapping[str, int]) -> str:
    shown = [f"{n} {what}" if n else what for what, n in counted.items()]
    return ", ".join(shown[: 2 * NAMED]) + (f", and {len(shown) - 2 * NAMED} more" if len(shown) > 2 * NAMED else "")


def _wrapped(layout: Layout) -> str:
    if layout.wrapper:
        return f"wrapped ({layout.wrapper})"
    return f"unwrapped, {layout.added} added to its names" if layout.added else "unwrapped"

"""What travels between the service and its render workers, as JSON: one job, one result."""

import json
from dataclasses import asdict, dataclass, field

from luthier_rendering.mix import Levels


@dataclass(frozen=True)
class RenderJob:
    """Render the MIDI file at `midi` into the folder `out`, as mix.flac and stem-<part>.flac."""

    midi: str
    out: str
    backend: str
    seed: int
    levels: Levels = field(default_factory=Levels)
    mix_only: bool = False

    @staticmethod
    def from_json(text: str | bytes) -> "RenderJob":
        values = json.loads(text)
        return RenderJob(**{**values, "levels": Levels(**values["levels"])})


@dataclass(frozen=True)
class StemResult:
    """Part index in the song; file name in the job's folder; LUFS in the mix (None = silence); what played."""

    part: int
    file: str
    loudness_lufs: float | None
    source: str


@dataclass(frozen=True)
class RenderResult:
    """`cpu_s` of the worker; `stages_s` splits it into synthesis, loudness, mixing and writing."""

    mix: str
    mix_loudness_lufs: float
    mix_peak_dbfs: float
    stems: list[StemResult]
    cpu_s: float
    stages_s: dict[str, float]

    @staticmethod
    def from_json(text: str | bytes) -> "RenderResult":
        values = json.loads(text)
        return RenderResult(**{**values, "stems": [StemResult(**stem) for stem in values["stems"]]})


def to_json(value: RenderJob | RenderResult) -> str:
    return json.dumps(asdict(value))

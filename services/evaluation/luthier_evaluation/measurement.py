"""What one model did with one row, as measured."""

from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.rpc.status_pb2 import Status

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1.evaluation_pb2 import RowResult
from luthier_evaluation.facts import key_of
from luthier_music.keys import Key


@dataclass(frozen=True)
class Measurement:
    """`tempo_bpm`, `key` and `loudness_lufs` are None where the estimator found none (silence has no loudness).

    `error` is why the row failed; nothing else is set then. `*_estimator` names who spoke.
    """

    row: int
    model: str
    audio: ArtifactRef | None = None
    tempo_bpm: float | None = None
    tempo_estimator: str = ""
    key: Key | None = None
    key_estimator: str = ""
    loudness_lufs: float | None = None
    duration_s: float = 0.0
    error: str = ""

    @property
    def silent(self) -> bool:
        return not self.error and self.loudness_lufs is None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        values = {key: value for key, value in self.__dict__.items() if key not in ("audio", "key")}
        audio = MessageToDict(self.audio, preserving_proto_field_name=True) if self.audio else None
        return {**values, "key": str(self.key) if self.key else None, "audio": audio}


def measured(result: RowResult) -> Measurement:
    """The measurement in a stored or received RowResult."""
    if result.HasField("error"):
        return Measurement(result.row, result.model, error=result.error.message)
    return Measurement(
        result.row,
        result.model,
        audio=result.audio,
        tempo_bpm=result.tempo.tempo_bpm or None,
        tempo_estimator=result.tempo.estimator,
        key=key_of(result.key),
        key_estimator=result.key.estimator,
        loudness_lufs=result.loudness_lufs if result.HasField("loudness_lufs") else None,
        duration_s=result.duration_s,
    )


def failed(row: int, model: str, status: Status) -> RowResult:
    """The result of a row that failed."""
    return RowResult(row=row, model=model, error=status)

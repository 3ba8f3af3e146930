"""What the operator sets, and what of it a caller may choose otherwise."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from luthier_kit.rpc import ServiceSettings, setting
from luthier_kit.store import StoreSettings

TEMPO_ESTIMATORS: Final = ("essentia", "deeprhythm", "beatnet")
BEAT_ESTIMATORS: Final = ("essentia", "beatnet")


@dataclass(frozen=True)
class Weights:
    """A file of weights that the operator supplies, with the SHA-256 (lowercase hex) that it must have."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Options:
    """Of TEMPO_ESTIMATORS and BEAT_ESTIMATORS one each. deeprhythm: its weights; None = it cannot be used. vocals:
    a model that hears vocals; None = they are not checked."""

    tempo_estimator: str = "essentia"
    deeprhythm: Weights | None = None
    beat_estimator: str = "essentia"
    vocals: Weights | None = None


@dataclass(frozen=True)
class AnalysisSettings(ServiceSettings, StoreSettings):
    """Settings of every service, and those of analysis."""

    tempo_estimator: str = setting(
        "LUTHIER_TEMPO_ESTIMATOR", default="essentia", choices=TEMPO_ESTIMATORS, help="the default estimator of tempo"
    )
    beat_estimator: str = setting(
        "LUTHIER_BEAT_ESTIMATOR", default="essentia", choices=BEAT_ESTIMATORS, help="the default estimator of beats"
    )
    deeprhythm_weights: str = setting(
        "LUTHIER_DEEPRHYTHM_WEIGHTS", default="", help="path of deeprhythm's weights, .safetensors or .pth"
    )
    deeprhythm_sha256: str = setting("LUTHIER_DEEPRHYTHM_SHA256", default="", help="SHA-256 of this file")

    vocals_model: str = setting(
        "LUTHIER_VOCALS_MODEL", default="", help="path of an ONNX model that hears vocals: mono audio at 16 kHz in"
    )
    vocals_sha256: str = setting("LUTHIER_VOCALS_SHA256", default="", help="SHA-256 of this model")

    def faults(self) -> list[str]:
        faults = super().faults()
        if bool(self.deeprhythm_weights) != bool(self.deeprhythm_sha256):
            faults.append("LUTHIER_DEEPRHYTHM_WEIGHTS and LUTHIER_DEEPRHYTHM_SHA256 must be set together")
        if bool(self.vocals_model) != bool(self.vocals_sha256):
            faults.append("LUTHIER_VOCALS_MODEL and LUTHIER_VOCALS_SHA256 must be set together")
        return faults

    @property
    def options(self) -> Options:
        """Of requests that choose nothing."""
        return Options(
            self.tempo_estimator,
            beat_estimator=self.beat_estimator,
            deeprhythm=_weights(self.deeprhythm_weights, self.deeprhythm_sha256),
            vocals=_weights(self.vocals_model, self.vocals_sha256),
        )


def _weights(path: str, sha256: str) -> Weights | None:
    return Weights(Path(path), sha256.lower()) if path else None

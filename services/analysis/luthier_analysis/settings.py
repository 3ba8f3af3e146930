"""What the operator sets."""

from luthier_kit.rpc import ServiceSettings, SettingsError, setting
from dataclasses import dataclass
from pathlib import Path

from luthier_analysis.features.options import TEMPO_ESTIMATORS, Weights


@dataclass(frozen=True)
class AnalysisSettings(ServiceSettings):
    """Settings of every service, and those of analysis."""

    tempo_estimator: str = setting(
        "LUTHIER_TEMPO_ESTIMATOR", default="essentia", choices=TEMPO_ESTIMATORS, help="who estimates tempo by default"
    )
    deeprhythm_weights: str = setting(
        "LUTHIER_DEEPRHYTHM_WEIGHTS", default="", help="path of deeprhythm's weights, .safetensors or .pth"
    )
    deeprhythm_sha256: str = setting("LUTHIER_DEEPRHYTHM_SHA256", default="", help="SHA-256 of this file")

    def weights(self) -> Weights | None:
        """deeprhythm's weights, None where none are set. SettingsError when only half is said."""
        path, sha256 = self.deeprhythm_weights, self.deeprhythm_sha256.lower()
        if bool(path) != bool(sha256):
            raise SettingsError("LUTHIER_DEEPRHYTHM_WEIGHTS and LUTHIER_DEEPRHYTHM_SHA256 must be set together")
        return Weights(Path(path), sha256) if path else None

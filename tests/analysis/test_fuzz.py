"""Hostile requests to every RPC: the status of the table, a stable reason, and a field for what is invalid."""

from collections.abc import Callable

import numpy as np
import pytest

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_analysis.service import build
from luthier_analysis.settings import AnalysisSettings
from tests.support.fuzz import attack
from tests.support.own_process import in_own_process

from .synth import chords
from .test_service import a_timeline


@pytest.mark.parametrize("per_class", [None, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_requests_are_refused_by_name(
    settings: AnalysisSettings, put: Callable[[np.ndarray], ArtifactRef], per_class: int | None
) -> None:
    sound = put(chords(0, "major", 2))
    examples = {
        "AnalyzeAudio": pb.AnalyzeAudioRequest(audio=sound, features=[pb.FEATURE_LOUDNESS]),
        "CutClips": pb.CutClipsRequest(mix=sound, timeline=a_timeline(2.0), target_s=2, min_s=1, max_s=3, max_clips=2),
    }
    with in_own_process(build, settings) as service:
        attack(service, pb.DESCRIPTOR.services_by_name["AnalysisService"], examples, per_class)

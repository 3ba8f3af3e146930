"""Hostile requests to every RPC: the status of the table, a stable reason, and a field for what is invalid."""

from pathlib import Path

import pytest

from luthier.prompting.v1 import prompting_pb2 as pb
from luthier_prompting.__main__ import build
from tests.support.fuzz import attack
from tests.support.own_process import in_own_process

from .test_service import TAGS, facts, settings


@pytest.mark.parametrize("per_class", [0, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_requests_are_refused_by_name(tmp_path: Path, per_class: int) -> None:
    own = settings(tmp_path)
    examples = {
        "ComposePrompts": pb.ComposePromptsRequest(facts=facts(loudness_lufs=-14), tags=TAGS, count=1, seed=1),
        "CheckPrompt": pb.CheckPromptRequest(prompt="A loud song at 120 BPM", facts=facts(), tags=TAGS),
    }
    with in_own_process(build, own) as service:
        attack(service, pb.DESCRIPTOR.services_by_name["PromptingService"], examples, per_class)

"""The plan of an evaluation: which suite, which models, which settings. Fixed when it is created, kept in its run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from luthier_evaluation import suite as suites
from luthier_evaluation.suite import Suite

DEFAULT_STEPS = 100
DEFAULT_GUIDANCE_SCALE = 7.0


@dataclass(frozen=True)
class Model:
    """A model version pinned at creation. `label` is `name@n`, `digest` is `sha256:…`."""

    label: str
    digest: str
    dataset: str = ""


@dataclass(frozen=True)
class Plan:
    """`models` holds the candidate, and before it the baseline where there is one."""

    suite: Suite
    models: tuple[Model, ...]
    steps: int = DEFAULT_STEPS
    guidance_scale: float = DEFAULT_GUIDANCE_SCALE
    sampler: str = ""
    created_by: str = ""

    @property
    def candidate(self) -> Model:
        return self.models[-1]

    @property
    def baseline(self) -> Model | None:
        return self.models[0] if len(self.models) > 1 else None

    @property
    def total(self) -> int:
        """Rows over all models."""
        return len(self.suite.rows) * len(self.models)

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "suite": self.suite.document(), "models": [asdict(model) for model in self.models]}


def from_document(document: Mapping[str, Any]) -> Plan:
    """The plan in a JSON document of `Plan.document`."""
    fixed = {key: document[key] for key in ("steps", "guidance_scale", "sampler", "created_by")}
    models = tuple(Model(**model) for model in document["models"])
    return Plan(suites.from_document(document["suite"]), models, **fixed)

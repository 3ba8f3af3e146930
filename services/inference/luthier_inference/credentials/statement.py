"""What credentials state of a file, as the JSON that c2pa-python takes."""

import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

SOURCES: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
MADE_BY_MODEL: Final = f"{SOURCES}trainedAlgorithmicMedia"
MADE_WITH_MODEL: Final = f"{SOURCES}compositeWithTrainedAlgorithmicMedia"
GENERATION: Final = "org.luthier.generation"
"""Label of the assertion that says how it was made."""
MODEL, DATASET = "c2pa.types.model.pytorch", "c2pa.types.dataset"


@dataclass(frozen=True)
class Ingredient:
    """Something that the audio was made with: its name and `sha256:…`; `kind` as C2PA names it, empty for audio."""

    name: str
    digest: str
    kind: str = ""

    def document(self) -> dict[str, object]:
        """As c2pa-python takes it. The digest identifies it: nothing of it is in the file."""
        data = {"data_types": [{"type": self.kind}]} if self.kind else {}
        form = "application/octet-stream" if self.kind else "audio/wav"
        return {"title": self.name, "format": form, "relationship": "inputTo", "instance_id": self.digest, **data}


@dataclass(frozen=True)
class Statement:
    """`model` and `model_digest` have every adapter behind a `+`. `action`: key of the record in the store that leads
    to everything else. `from_audio`: it was made from a sound that was given.
    """

    title: str
    model: str
    model_digest: str
    seed: int
    action: str
    ingredients: tuple[Ingredient, ...] = ()
    from_audio: bool = False

    def document(self) -> str:
        """The manifest's definition as JSON."""
        luthier = {"name": "Luthier", "version": version("luthier-inference")}
        created = {
            "action": "c2pa.created",
            "digitalSourceType": MADE_WITH_MODEL if self.from_audio else MADE_BY_MODEL,
            "softwareAgent": luthier,
        }
        made = {
            "model": self.model,
            "model_digest": self.model_digest,
            "seed": str(self.seed),  # of 64 bits: more than every JSON reader holds
            "action": self.action,
        }
        return json.dumps(
            {
                "claim_generator_info": [luthier],
                "title": self.title,
                "ingredients": [each.document() for each in self.ingredients],
                "assertions": [
                    {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
                    {"label": GENERATION, "data": made},
                ],
            }
        )

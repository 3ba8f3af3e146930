"""ml-bom.cdx.json: a bill of materials of a model in CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/).

The same model gives the same bytes: its serial number comes from its digest, its time from its registration.
"""

import uuid
from collections.abc import Iterable
from importlib.metadata import version
from typing import Final

from luthier_kit.licences import Rule, rule_of
from luthier_kit.registry import ModelVersion
from luthier_pipeline.export.figures import figures
from luthier_pipeline.lawpack.behind import Behind, UsedDataset, by_licence

Json = dict[str, object]
SPEC: Final = "1.6"
_NAMESPACE: Final = uuid.UUID("6f1f0f0e-7f0a-5c1a-9d2b-4c7567686965")
APPROACH: Final = "supervised"
TASK: Final = "text-to-audio"


def bill(found: Behind, architecture: str) -> Json:
    """The document. `architecture`: the kind of model, by its configuration."""
    data = {dataset.folder: _dataset(dataset) for dataset in found.datasets}
    tools = list(_tools(found))
    root = _model(found.version)
    licences = [rule.licence for rule in _rules(found)]
    root |= {
        "modelCard": {
            "modelParameters": {
                "approach": {"type": APPROACH},
                "task": TASK,
                "architectureFamily": "latent diffusion",
                "modelArchitecture": architecture,
                "datasets": [{"ref": name} for name in data],
                "inputs": [{"format": "text/plain"}],
                "outputs": [{"format": "audio"}],
            },
            "considerations": {
                "technicalLimitations": [f"Not known: {text}." for text in found.unknown]
                or ["It makes what its training clips are of; the model card says how much of what it heard."],
            },
        },
        "properties": [_property("luthier:licences-of-training-clips", ", ".join(licences) or "none stated")],
    }
    if ancestors := [_model(each.version) for each in found.ancestors[1:]]:
        root["pedigree"] = {"ancestors": ancestors}
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": uuid.uuid5(_NAMESPACE, found.version.digest).urn,
        "version": 1,
        "metadata": {
            **({"timestamp": f"{at:%Y-%m-%dT%H:%M:%SZ}"} if (at := found.version.created_at) else {}),
            "tools": {
                "components": [{"type": "application", "name": "luthier", "version": version("luthier-pipeline")}]
            },
            "component": root,
        },
        "components": [*data.values(), *tools],
        "dependencies": [
            {"ref": str(root["bom-ref"]), "dependsOn": sorted(data)},
            *({"ref": name, "dependsOn": sorted(str(tool["bom-ref"]) for tool in tools)} for name in data),
        ],
    }


def _model(model: ModelVersion) -> Json:
    """A version as a component: the digest is that of what decides its sound, the hash that of its weights."""
    component: Json = {
        "type": "machine-learning-model",
        "bom-ref": f"{model.label}-{model.digest[:8]}",
        "name": model.name,
        "version": f"{model.n}",
        "hashes": [{"alg": "SHA-256", "content": model.checkpoint.sha256}],
        "description": f"Model version sha256:{model.digest}",
    }
    if licences := [str(each) for each in model.notes.get("licences", ())]:
        component["licenses"] = [licence_choice(name) for name in licences]
    return component


def _dataset(dataset: UsedDataset) -> Json:
    counted = figures(dataset.rows)
    amounts = by_licence(dataset.rows)
    hours = counted.every.duration_s / 3600
    return {
        "type": "data",
        "bom-ref": dataset.folder,
        "name": dataset.name,
        "version": dataset.digest[:12],
        "description": f"{counted.every.clips} clips of {len(counted.every.songs)} songs, {hours:.2f} hours",
        "hashes": [{"alg": "SHA-256", "content": dataset.digest}],
        "licenses": [licence_choice(name) for name in sorted({licence for licence, _ in amounts})],
        "data": [
            {
                "type": "dataset",
                "name": dataset.name,
                "contents": {
                    "properties": [
                        _property(f"luthier:clips:{licence}:{subset}", str(amount.clips))
                        for (licence, subset), amount in amounts.items()
                    ]
                },
            }
        ],
    }


def _tools(found: Behind) -> Iterable[Json]:
    """Stages, tools, plugins, SoundFonts and models that took part in the clips, each with its version or digest."""
    for name, versions in sorted(figures(found.rows()).versions.items()):
        for each in sorted(versions):
            yield {"type": "application", "bom-ref": f"tool:{name}@{each}", "name": name, "version": each}


def _rules(found: Behind) -> list[Rule]:
    """The rules of the licences that bind the clips, each once."""
    names = sorted({licence for licence, _ in by_licence(found.rows())})
    return [rule for name in names if (rule := rule_of(name))]


def licence_choice(name: str) -> Json:
    """A licence as CycloneDX has it: an SPDX identifier where it is one, else its name."""
    rule = rule_of(name)
    return {"license": {"id": rule.licence} if rule and rule.spdx else {"name": name}}


def _property(name: str, value: str) -> Json:
    return {"name": name, "value": value}

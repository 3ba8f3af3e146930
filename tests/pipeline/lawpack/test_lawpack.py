"""`luthier lawpack`: what is behind a model, in a folder."""

import csv
import json
from pathlib import Path

import pytest

from luthier.curation.v1.dataset_pb2 import DatasetManifest
from luthier.training.v1.model_card_pb2 import HeardDataset, ModelCard
from luthier_kit.registry import ModelVersion, register
from luthier_kit.store import Store
from tests.pipeline.export.hostile import hostile
from tests.pipeline.export.test_readers import CROISSANT, in_environment
from tests.pipeline.fakes import FakeClients, luthier

STRICT = """
import json, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
print(json.dumps({"fault": str(fault.data) if fault else ""}))
"""


def version(store: Store, name: str, weights: bytes, **more: object) -> ModelVersion:
    made = ModelVersion(
        name=name,
        checkpoint=store.blobs.put_bytes("checkpoints", weights, "safetensors"),
        configuration=store.blobs.put_bytes("configurations", b'{"model_type": "diffusion_cond"}', "json"),
        **more,  # type: ignore[arg-type]
    )
    return register(store, made)


@pytest.fixture
def clients(store: Store) -> FakeClients:
    """A model `tuned` on the data set `book@1`, over `brought`, of which nobody knows what it heard."""
    exported = hostile(store)
    base = version(store, "brought", b"base", notes={"licences": ["Stability AI Community License"]})
    card = ModelCard(
        model_name="tuned", base=base.label, base_digest=base.digest, clips=3, markdown="# tuned\n",
        datasets=[HeardDataset(name="book@1", digest=exported.answer.manifest.sha256)],
        base_licences=["Stability AI Community License"],
    )  # fmt: skip
    version(store, "tuned", b"tuned", card=store.put("model-cards", card), dataset=exported.answer.manifest)
    return FakeClients(store)


def packed(clients: FakeClients, folder: Path, more: str = "") -> Path:
    done = luthier(f"lawpack tuned --out {folder / 'pack'} {more}", clients)
    assert done.code == 0, done.err
    return folder / "pack"


def test_the_pack_has_every_file_that_its_index_names(clients: FakeClients, tmp_path: Path) -> None:
    pack = packed(clients, tmp_path)

    named = {line.split("`")[1] for line in (pack / "README.md").read_text().splitlines() if line.startswith("| `")}
    there = {path.name + "/" * path.is_dir() for path in pack.iterdir()} - {"README.md"}
    assert named == there
    [dataset] = (pack / "datasets").iterdir()
    assert {path.name for path in dataset.iterdir()} == {"manifest.json", "metadata.parquet", "croissant.json"}


def test_licences_are_counted_by_subset_with_what_they_ask_for(clients: FakeClients, tmp_path: Path) -> None:
    with (packed(clients, tmp_path) / "licences.csv").open(newline="") as file:
        lines = {(line["licence"], line["subset"]): line for line in csv.DictReader(file)}

    assert {key: line["clips"] for key, line in lines.items()} == {
        ("CC0-1.0", "polyphonic"): "2", ("MIT", "polyphonic"): "2", ("unknown", "external"): "1",
    }  # fmt: skip
    assert lines["MIT", "polyphonic"]["obligations"] == "name the makers"
    assert lines["unknown", "external"]["commercial"] == "unknown"


def test_what_nobody_knows_is_said(clients: FakeClients, tmp_path: Path) -> None:
    done = luthier(f"lawpack tuned --out {tmp_path / 'pack'} --json", clients)

    assert done.document["refused_clips"] == {"research": 1, "commercial": 1, "redistribution": 1}
    assert done.document["unknown"] == ["what brought@1 was trained on: it was brought, and has no card"]
    text = (tmp_path / "pack" / "README.md").read_text()
    assert "what brought\\@1 was trained on" in text
    assert "Stability AI Community License" in text


def test_the_summary_has_every_section_and_puts_data_sets_where_their_source_is(
    clients: FakeClients, tmp_path: Path
) -> None:
    text = (
        packed(clients, tmp_path, "--source book=licensed --provider Acme") / "training-content-summary.md"
    ).read_text()

    sections = [line.split()[1] for line in text.splitlines() if line.startswith("#")][1:]
    assert sections == ["1.", "1.3", "2.", "2.1", "2.2.1", "2.2.2", "2.3", "2.4", "2.5", "2.6", "3.", "3.1", "3.2"]
    licensed = text.partition("### 2.2.1")[2].partition("### 2.2.2")[0]
    assert "book\\@1" in licensed
    assert "book\\@1" not in text.partition("### 2.6")[2].partition("Captions")[0]
    assert "Acme, **to be stated by the provider**" in text


def test_texts_from_outside_are_no_markup(clients: FakeClients, tmp_path: Path) -> None:
    text = (packed(clients, tmp_path) / "ATTRIBUTION.md").read_text()

    assert "<img" not in text
    assert "[here](" not in text


def test_the_same_model_gives_the_same_files(clients: FakeClients, tmp_path: Path) -> None:
    one, other = ({path.relative_to(pack): path.read_bytes() for path in pack.rglob("*") if path.is_file()}
                  for pack in (packed(clients, tmp_path / name) for name in "ab"))  # fmt: skip

    assert one == other


def test_a_pack_replaces_a_pack_and_nothing_else(clients: FakeClients, tmp_path: Path) -> None:
    packed(clients, tmp_path)
    packed(clients, tmp_path)
    (tmp_path / "pack" / "thesis.txt").write_text("mine")

    done = luthier(f"lawpack tuned --out {tmp_path / 'pack'}", clients)

    assert done.code == 2
    assert "holds what no lawpack wrote" in done.err
    assert (tmp_path / "pack" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("book", "must be DATASET=KIND"),
        ("book=stolen", "KIND one of public, licensed"),
        ("other=public", "tuned@1 heard no such data set; it heard book@1"),
    ],
)
def test_a_source_that_cannot_be_is_refused(clients: FakeClients, tmp_path: Path, source: str, fault: str) -> None:
    done = luthier(f"lawpack tuned --out {tmp_path / 'pack'} --source {source}", clients)

    assert done.code == 2
    assert fault in " ".join(done.err.split())


def test_a_manifest_that_is_gone_is_said(clients: FakeClients, tmp_path: Path) -> None:
    card = ModelCard(datasets=[HeardDataset(name="lost@2", digest="e" * 64)], markdown="# other\n")
    version(clients.store, "other", b"other", card=clients.store.put("model-cards", card))

    done = luthier(f"lawpack other --out {tmp_path / 'pack'}", clients)

    assert done.code == 0, done.err
    assert "data set lost@2 of other@1: its manifest" in " ".join(done.out.split())


def test_the_manifest_in_the_pack_is_the_one_that_was_trained_on(clients: FakeClients, tmp_path: Path) -> None:
    from google.protobuf.json_format import Parse

    [path] = (packed(clients, tmp_path) / "datasets").glob("*/manifest.json")

    assert Parse(path.read_text(), DatasetManifest()) == hostile(clients.store).manifest


@pytest.mark.slow
def test_cyclonedx_finds_no_fault(clients: FakeClients, tmp_path: Path) -> None:
    bill = packed(clients, tmp_path) / "ml-bom.cdx.json"

    assert in_environment("cyclonedx-python-lib[json-validation]==11.6.0", STRICT, str(bill)) == {"fault": ""}
    assert json.loads(bill.read_text())["metadata"]["component"]["pedigree"]["ancestors"][0]["name"] == "brought"


@pytest.mark.slow
def test_mlcroissant_finds_no_fault_and_reads_the_records(clients: FakeClients, tmp_path: Path) -> None:
    [path] = (packed(clients, tmp_path) / "datasets").glob("*/croissant.json")

    read = in_environment("mlcroissant[parquet]==1.1.1", CROISSANT, str(path))

    assert (read["errors"], len(read["rows"])) == ([], 5)

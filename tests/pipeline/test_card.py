"""`luthier card`: what a model was trained on; and what `generate` says of a prompt."""

from pathlib import Path

from luthier.training.v1.model_card_pb2 import HeardAmount, ModelCard
from luthier_kit.registry import ModelVersion, register
from luthier_kit.store import Store
from tests.pipeline.fakes import FakeClients, luthier


def registered(store: Store, card: ModelCard | None) -> ModelVersion:
    return register(
        store,
        ModelVersion(
            name="tuned",
            checkpoint=store.blobs.put_bytes("checkpoints", b"weights", "safetensors"),
            configuration=store.blobs.put_bytes("configurations", b"{}", "json"),
            card=store.put("model-cards", card) if card else None,
        ),
    )


CARD = ModelCard(
    duration_s=90, instruments=[HeardAmount(name="Violin", duration_s=60)], markdown="---\n---\n\n# tuned\n"
)


def test_a_card_is_shown_written_and_given_as_json(store: Store, tmp_path: Path) -> None:
    registered(store, CARD)
    clients = FakeClients(store)
    assert luthier("card tuned", clients).out.startswith("---\n---\n\n# tuned")
    assert luthier(f"card tuned@1 --out {tmp_path / 'README.md'}", clients).code == 0
    assert (tmp_path / "README.md").read_text() == CARD.markdown
    document = luthier("card tuned --json", clients).document
    assert (document["model"], document["duration_s"]) == ("tuned@1", 90)
    assert document["instruments"] == [{"name": "Violin", "duration_s": 60}]


def test_a_model_without_a_card_says_so(store: Store) -> None:
    registered(store, None)
    done = luthier("card tuned", FakeClients(store))
    assert done.code == 1
    assert "CARD_NOT_FOUND: tuned@1 has no card" in done.err


def test_the_lineage_of_a_card_is_its_models(store: Store) -> None:
    version = registered(store, CARD)
    assert version.card is not None
    done = luthier(f"lineage {version.card.key} --json", FakeClients(store))
    assert (done.code, done.document["models"]) == (0, ["tuned@1"])

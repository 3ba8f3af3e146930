"""metric-weights: the list of embedders, and weights that are stored before the service opens them."""

import json
import sys
from pathlib import Path

import pytest

from luthier.evaluation.v1.evaluation_pb2 import (
    ListMetricWeightsResponse,
    MetricWeights,
    MetricWeightsState,
    RegisterMetricWeightsRequest,
    RegisterMetricWeightsResponse,
)
from luthier_kit.store import Store
from luthier_pipeline import convert_checkpoint
from tests.pipeline.fakes import FakeClients, Stub, luthier

OURS = b'\x40\x00\x00\x00\x00\x00\x00\x00{"__metadata__":{"luthier.embedder":"passt"}}'


@pytest.fixture
def clients(store: Store) -> FakeClients:
    def registered(request: RegisterMetricWeightsRequest) -> RegisterMetricWeightsResponse:
        return RegisterMetricWeightsResponse(weights=MetricWeights(name=request.name, weights=request.weights))

    states = [
        MetricWeightsState(
            name="musicnn_msd", title="musicnn (MSD)", weights_sha256="a" * 64, scores=["fd_musicnn_msd"]
        ),
        MetricWeightsState(name="passt", title="PaSST", bring="luthier metric-weights passt FILE", scores=["kl_passt"]),
    ]
    service = Stub(ListMetricWeights=ListMetricWeightsResponse(embedders=states), RegisterMetricWeights=registered)
    return FakeClients(store, evaluation=service)


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in place of the Python that has torch: it writes OURS, reports so, and ends with the code in `code`."""
    program = tmp_path / "python"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib, sys\n"
        "code = int((pathlib.Path(__file__).parent / 'code').read_text())\n"
        "out = pathlib.Path(sys.argv[sys.argv.index('--out') + 1]) / 'passt.safetensors'\n"
        f"out.write_bytes({OURS!r})\n"
        "print(json.dumps({'written': str(out), 'source': ' '.join(sys.argv[1:4])}))\n"
        "sys.exit(code)\n"
    )
    program.chmod(0o755)
    (tmp_path / "code").write_text("0")
    monkeypatch.setenv(convert_checkpoint.PYTHON, str(program))
    return tmp_path


def test_without_a_name_it_lists_whose_weights_are_there_and_how_to_bring_the_others(clients: FakeClients) -> None:
    done = luthier("metric-weights", clients)

    lines = done.out.splitlines()
    assert "aaaaaaaaaaaaaaaa" in lines[1]
    assert "absent" in lines[2]
    assert "luthier metric-weights passt FILE" in lines[2]


def test_an_unknown_embedder_is_wrong_usage_and_the_known_ones_are_named(clients: FakeClients) -> None:
    done = luthier("metric-weights vggish", clients)

    assert done.code == 2
    assert "musicnn_msd, passt" in done.err


def test_a_published_checkpoint_is_converted_stored_and_registered(
    clients: FakeClients, store: Store, converter: Path, tmp_path: Path
) -> None:
    (tmp_path / "passt.pt").write_bytes(b"a checkpoint")

    done = luthier(f"metric-weights passt {tmp_path / 'passt.pt'} --out {tmp_path / 'kept'} --as ann", clients)

    assert done.code == 0
    (request,) = clients.requests("RegisterMetricWeights")
    assert (request.name, request.source) == ("passt", "-m luthier_evaluation.conversion passt")
    assert store.blobs.read(request.weights) == OURS
    assert (tmp_path / "kept/passt.safetensors").read_bytes() == OURS


def test_a_file_that_was_converted_before_needs_no_torch(clients: FakeClients, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(OURS)

    done = luthier(f"metric-weights passt {tmp_path / 'mine.safetensors'} --json", clients)

    assert json.loads(done.out)["weights"]["name"] == "passt"
    assert clients.requests("RegisterMetricWeights")[0].source == "mine.safetensors"


def test_what_the_conversion_refuses_registers_nothing(clients: FakeClients, converter: Path, tmp_path: Path) -> None:
    (tmp_path / "passt.pt").write_bytes(b"no checkpoint")
    (converter / "code").write_text("1")

    done = luthier(f"metric-weights passt {tmp_path / 'passt.pt'}", clients)

    assert done.code == 1
    assert not clients.requests("RegisterMetricWeights")

"""Checkpoints of every kind become one file that fits its configuration, or it is said why not."""

import json
import math
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from luthier_model.configuration import Configuration
from luthier_model.conversion import convert as module
from luthier_model.conversion import reader, sandbox
from luthier_model.conversion.__main__ import main
from luthier_model.conversion.convert import Sources, convert
from luthier_model.conversion.report import ConversionError, Report
from luthier_model.conversion.sandbox import Refused
from luthier_model.network import random_model
from tests.model.families import small_family

State = dict[str, torch.Tensor]


class Here:
    """The reader in this process, asked and answering as the other one does."""

    isolated = False

    def __init__(self) -> None:
        self._files: list[reader.Opened] = []

    def ask(self, question: Any) -> Any:
        answer = json.loads(json.dumps(reader.answered(json.dumps(question), self._files)))
        if "refused" in answer:
            raise Refused(answer["refused"], answer["text"])
        return answer


@pytest.fixture
def sandboxed() -> None:
    """Asked for by a test whose file is read in a process of its own."""


@pytest.fixture(autouse=True)
def unsandboxed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a test wrote are opened in this process: starting the reader takes two seconds."""
    if "sandboxed" not in request.fixturenames:
        monkeypatch.setattr(sandbox, "started", lambda *_: nullcontext(Here()))


@pytest.fixture(scope="module")
def state(files: tuple[Path, Path]) -> State:
    """The model's tensors, each of its own values."""
    return {name: torch.full_like(tensor, n + 1) for n, (name, tensor) in enumerate(load_file(files[0]).items())}


@pytest.fixture
def config(known: Configuration, tmp_path: Path) -> Path:
    path = tmp_path / "model_config.json"
    path.write_text(json.dumps(dict(known.document)))
    return path


def saved(path: Path, state: State, **beside: Any) -> Path:
    torch.save({"state_dict": state, **beside}, path)
    return path


def wrapped(state: State, *, updates: int | None = 5) -> State:
    """As a training wrapper has it; the moving average is 1 more than what is trained."""
    found = {f"diffusion.{name}": tensor for name, tensor in state.items()}
    if updates is not None:
        found |= {f"diffusion_ema.ema_model.{n[6:]}": t + 1 for n, t in state.items() if n.startswith("model.")}
        found["diffusion_ema.initted"] = torch.tensor([float(updates > 1)])
        found["diffusion_ema.step"] = torch.tensor([updates])
    return found


def averaged(state: State) -> State:
    return {name: tensor + 1 if name.startswith("model.") else tensor for name, tensor in state.items()}


def autoencoder_of(state: State) -> State:
    prefix = "pretransform.model."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def without_autoencoder(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith("pretransform.")}


def same(folder: Path, state: State) -> bool:
    written = load_file(folder / "weights.safetensors")
    return set(written) == set(state) and all(torch.equal(written[name], state[name].float()) for name in state)


Converts = Callable[..., Report]


@pytest.fixture
def converted(config: Path, tmp_path: Path) -> Converts:
    """Converts into the folder `out`."""
    return lambda path, **how: convert(Sources(path, config, **how), tmp_path / "out")


@pytest.mark.usefixtures("sandboxed")
def test_a_wrapped_checkpoint_gives_its_moving_average(tmp_path: Path, state: State, converted: Converts) -> None:
    path = saved(tmp_path / "a.ckpt", wrapped(state), optimizer_states=[{}], global_step=5)
    report = converted(path)
    assert same(tmp_path / "out", averaged(state))
    assert report.weights.startswith("moving average of 5 updates")
    assert report.left_out["optimizer_states"] == 0
    assert report.left_out["diffusion.model"] == sum(name.startswith("model.") for name in state)
    assert report.found[0].step == 5


def test_or_what_was_trained_where_that_is_asked_for(tmp_path: Path, state: State, converted: Converts) -> None:
    report = converted(saved(tmp_path / "a.ckpt", wrapped(state)), weights="online")
    assert same(tmp_path / "out", state)
    assert report.weights == "online, as asked for"


def test_a_moving_average_that_was_never_updated_is_not_taken_for_the_model(
    tmp_path: Path, state: State, converted: Converts
) -> None:
    report = converted(saved(tmp_path / "a.ckpt", wrapped(state, updates=1)))
    assert same(tmp_path / "out", state)
    assert report.weights == "online: the moving average was never updated"


def test_a_wrapped_checkpoint_without_a_moving_average(tmp_path: Path, state: State, converted: Converts) -> None:
    report = converted(saved(tmp_path / "a.ckpt", wrapped(state, updates=None)))
    assert same(tmp_path / "out", state)
    assert report.weights == "online: there is no moving average"


def test_a_moving_average_that_is_not_there_cannot_be_asked_for(
    tmp_path: Path, state: State, converted: Converts
) -> None:
    with pytest.raises(ConversionError, match="no moving average") as refused:
        converted(saved(tmp_path / "a.ckpt", state), weights="ema")
    assert refused.value.reason == "NO_MOVING_AVERAGE"


@pytest.mark.parametrize("container", ["ckpt", "safetensors"])
def test_an_unwrapped_one_is_taken_as_it_is(tmp_path: Path, state: State, converted: Converts, container: str) -> None:
    path = tmp_path / "a"
    if container == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state}, path)
    report = converted(path)
    assert same(tmp_path / "out", state)
    assert report.weights == "as stored: the file has one set"
    assert report.parameters == sum(tensor.numel() for tensor in state.values())


def test_other_precisions_become_float32(tmp_path: Path, state: State, converted: Converts) -> None:
    formats = [torch.float16, torch.bfloat16, torch.float64]
    other = {name: (tensor / 3).to(formats[n % 3]) for n, (name, tensor) in enumerate(state.items())}
    report = converted(saved(tmp_path / "a.ckpt", other))
    assert same(tmp_path / "out", other)
    assert {tensor.dtype for tensor in load_file(tmp_path / "out/weights.safetensors").values()} == {torch.float32}
    assert set(report.dtypes) == {"float16", "bfloat16", "float64"}


@pytest.mark.parametrize("how", ["bare", "averaged", "whole"])
def test_transformer_and_autoencoder_in_two_files_are_put_together(
    tmp_path: Path, state: State, converted: Converts, how: str
) -> None:
    bare = autoencoder_of(state)
    encoder = {
        "bare": bare,
        "averaged": {f"autoencoder.{n}": t - 1 for n, t in bare.items()}
        | {f"autoencoder_ema.ema_model.{n}": t for n, t in bare.items()}
        | {"autoencoder_ema.initted": torch.ones(1), "autoencoder_ema.step": torch.tensor([9])},
        "whole": {name: t if name.startswith("pretransform.") else t - 1 for name, t in state.items()},
    }[how]
    first = saved(tmp_path / "a.ckpt", wrapped(without_autoencoder(state)))
    report = converted(first, autoencoder=saved(tmp_path / "vae.ckpt", encoder))
    assert same(tmp_path / "out", averaged(state))
    assert str(tmp_path / "vae.ckpt") in report.autoencoder


def test_an_autoencoder_that_replaces_the_checkpoints_own_is_noted(
    tmp_path: Path, state: State, converted: Converts
) -> None:
    other = saved(tmp_path / "vae.ckpt", {name: tensor + 3 for name, tensor in autoencoder_of(state).items()})
    report = converted(saved(tmp_path / "a.ckpt", state), autoencoder=other)
    assert same(tmp_path / "out", {n: t + 3 if n.startswith("pretransform.") else t for n, t in state.items()})
    assert any("own autoencoder" in note and "was left out" in note for note in report.notes)


def test_the_same_weights_are_the_same_bytes_whatever_file_they_came_in(
    tmp_path: Path, state: State, config: Path
) -> None:
    first = saved(tmp_path / "a.ckpt", wrapped(state, updates=None), optimizer_states=[{}])
    second = saved(tmp_path / "b.ckpt", dict(reversed(state.items())))
    written = []
    for path in (first, second):
        convert(Sources(path, config), tmp_path / path.stem)
        written.append((tmp_path / path.stem / "weights.safetensors").read_bytes())
    assert written[0] == written[1]


def test_what_was_written_says_where_it_came_from(tmp_path: Path, state: State, converted: Converts) -> None:
    report = converted(saved(tmp_path / "a.ckpt", state))
    document = json.loads((tmp_path / "out/conversion.json").read_text())
    assert document["found"][0]["sha256"] == report.found[0].sha256
    assert report.next == [
        f"luthier register NAME --weights {tmp_path}/out/weights.safetensors --config {tmp_path}/out/config.json "
        "--text-encoder FOLDER-OF-local"
    ]


def refused(call: Callable[[], object]) -> ConversionError:
    with pytest.raises(ConversionError) as caught:
        call()
    return caught.value


def test_a_missing_tensor_is_named(tmp_path: Path, state: State, converted: Converts) -> None:
    gone = max(name for name in state if name.startswith("model."))
    rest = {name: tensor for name, tensor in state.items() if name != gone}
    error = refused(lambda: converted(saved(tmp_path / "a.ckpt", wrapped(rest))))
    assert (error.reason, error.report and error.report.missing) == ("CHECKPOINT_MISMATCH", [gone])
    assert error.report
    assert f"1: {gone}" in error.report.text()
    assert not (tmp_path / "out").exists()


def test_another_models_configuration_names_the_shapes(
    tmp_path: Path, state: State, converted: Converts, config: Path
) -> None:
    document = json.loads(config.read_text())
    document["model"]["diffusion"]["config"]["embed_dim"] = 96
    document["model"]["diffusion"]["config"]["num_heads"] = 3
    config.write_text(json.dumps(document))
    error = refused(lambda: converted(saved(tmp_path / "a.ckpt", state)))
    assert "is it the one that the model was trained with" in str(error)
    assert error.report
    assert error.report.reshaped
    assert all(each.name.startswith("model.") for each in error.report.reshaped)


def test_a_checkpoint_without_its_autoencoder_says_what_to_give(
    tmp_path: Path, state: State, converted: Converts
) -> None:
    error = refused(lambda: converted(saved(tmp_path / "a.ckpt", without_autoencoder(state))))
    assert "--autoencoder" in str(error)


def test_an_autoencoder_alone_says_so(tmp_path: Path, state: State, converted: Converts) -> None:
    error = refused(lambda: converted(saved(tmp_path / "a.ckpt", autoencoder_of(state))))
    assert "holds an autoencoder alone" in str(error)


def test_a_file_of_something_else_says_what_it_holds(tmp_path: Path, state: State, converted: Converts) -> None:
    error = refused(lambda: converted(saved(tmp_path / "a.ckpt", {"text_model.embeddings.x": torch.zeros(3)})))
    assert "no tensor of this model is in the file; its tensors are 1 text_model.embeddings" in str(error)
    other = saved(tmp_path / "b.ckpt", {"text_model.embeddings.x": torch.zeros(3)})
    error = refused(lambda: converted(saved(tmp_path / "a.ckpt", state), autoencoder=other))
    assert error.reason == "NO_AUTOENCODER"


def test_weights_that_are_not_finite_are_refused(tmp_path: Path, state: State, converted: Converts) -> None:
    name = sorted(state)[3]
    broken = {**state, name: torch.full_like(state[name], math.nan)}
    error = refused(lambda: converted(saved(tmp_path / "a.ckpt", broken)))
    assert error.reason == "WEIGHTS_NOT_FINITE"
    assert name in str(error)
    assert list(tmp_path.glob("*out*")) == []


def test_whole_numbers_are_no_weights(tmp_path: Path, state: State, converted: Converts) -> None:
    name = sorted(state)[3]
    broken = {**state, name: torch.zeros_like(state[name], dtype=torch.int8)}
    error = refused(lambda: converted(saved(tmp_path / "a.ckpt", broken)))
    assert "int8" in str(error)


@pytest.mark.usefixtures("sandboxed")
def test_a_pickle_that_wants_code_is_refused_with_advice(tmp_path: Path, state: State, converted: Converts) -> None:
    path = saved(tmp_path / "a.ckpt", state, hyper_parameters=Path())
    error = refused(lambda: converted(path))
    assert error.reason == "PICKLE_REFUSED"
    assert "torch.save({'state_dict':" in str(error)


def test_a_folder_of_deepspeed_says_what_to_run(tmp_path: Path, converted: Converts) -> None:
    assert "zero_to_fp32.py" in str(refused(lambda: converted(tmp_path)))


def test_a_folder_that_is_there_is_not_written_into(tmp_path: Path, state: State, converted: Converts) -> None:
    (tmp_path / "out").mkdir()
    assert refused(lambda: converted(saved(tmp_path / "a.ckpt", state))).reason == "OUT_EXISTS"


def test_a_file_beyond_the_bound_is_refused_unopened(
    tmp_path: Path, state: State, converted: Converts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1000)
    assert refused(lambda: converted(saved(tmp_path / "a.ckpt", state))).reason == "FILE_TOO_LARGE"


def test_no_room_is_said_before_anything_is_read(
    tmp_path: Path, converted: Converts, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    assert refused(lambda: converted(saved(tmp_path / "a.ckpt", state))).reason == "DISK_FULL"


@pytest.mark.usefixtures("sandboxed")
def test_the_deadline_ends_it(tmp_path: Path, state: State, converted: Converts) -> None:
    path = saved(tmp_path / "a.ckpt", state)
    assert refused(lambda: converted(path, wall_s=0.01)).reason == "TIMED_OUT"
    assert list(tmp_path.glob("*out*")) == []


@pytest.mark.usefixtures("sandboxed")
def test_the_command_prints_a_table(
    tmp_path: Path, state: State, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "a.ckpt", wrapped({name: tensor.half() for name, tensor in state.items()}))
    assert main([str(path), "--config", str(config), "--out", str(tmp_path / "out")]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    rows = {line[0]: line[1] for line in lines}
    assert rows["precision"] == f"{len(state)} float16; float32 is written"
    assert rows["next"].startswith("luthier register NAME --weights")


def test_names_of_a_hostile_file_do_not_reach_the_terminal(
    tmp_path: Path, state: State, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "a.ckpt", {**state, "\x1b]0;owned\x07": torch.zeros(1)})
    assert main([str(path), "--config", str(config), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert "\\x1b]0;owned\\x07" in said.out
    assert "\x1b" not in said.out + said.err


@pytest.mark.usefixtures("sandboxed")
def test_the_command_answers_in_json_when_it_fails(
    tmp_path: Path, state: State, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "a.ckpt", without_autoencoder(state))
    assert main([str(path), "--config", str(config), "--out", str(tmp_path / "out"), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["reason"] == "CHECKPOINT_MISMATCH"
    assert document["missing"]["count"] == len(autoencoder_of(state))
    assert len(document["missing"]["first"]) == 5


@pytest.mark.parametrize("family", ["stable_audio_1", "stable_audio_2"])
def test_other_families_trained_compiled_and_in_parallel(family: str, tmp_path: Path) -> None:
    """Names as torch itself makes them of a compiled network in a training wrapper."""
    files = small_family(family, tmp_path)
    known, state = files.configuration, load_file(files.weights)
    (tmp_path / "family.json").write_text(json.dumps(dict(known.document)))
    wrapper = torch.nn.ModuleDict({"diffusion": random_model(known, seed=1)})
    wrapper["diffusion"].load_state_dict(state)
    inner: Any = wrapper["diffusion"]
    inner.model = torch.compile(inner.model)
    names = torch.nn.ModuleDict({"module": wrapper}).state_dict()
    assert any(name.startswith("module.diffusion.model._orig_mod.model.") for name in names)

    report = convert(Sources(saved(tmp_path / "a.ckpt", names), tmp_path / "family.json"), tmp_path / "out")

    assert same(tmp_path / "out", state)
    assert any("names hold _orig_mod and module" in note for note in report.notes)
    assert "FOLDER-OF-clap_text" in report.next[0]

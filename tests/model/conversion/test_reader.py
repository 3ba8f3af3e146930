"""What is opened, and what is refused unopened."""

import fractions
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from luthier_model.conversion import reader
from luthier_model.conversion.reader import check_archive, opened
from luthier_model.conversion.sandbox import Refused

STATE = {"model.a": torch.arange(4.0), "model.b": torch.ones(2, 3)}


def saved(path: Path, document: Any, **how: Any) -> Path:
    torch.save(document, path, **how)
    return path


@pytest.mark.parametrize(
    ("document", "container"),
    [
        ({"state_dict": STATE, "pytorch-lightning_version": "2.5", "optimizer_states": [{}]}, "lightning"),
        ({"state_dict": STATE}, "state_dict"),
        (STATE, "plain"),
    ],
)
def test_the_container_is_recognised(tmp_path: Path, document: dict[str, Any], container: str) -> None:
    file = opened(saved(tmp_path / "a.ckpt", document))
    assert file.container == container
    assert all(torch.equal(file.tensors[name], tensor) for name, tensor in STATE.items())


def test_safetensors_are_read_too_even_where_they_begin_as_a_pickle_does(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes()[:1] == pickle.dumps(0)[:1]  # the header has 128 bytes
    assert opened(tmp_path / "a.safetensors").container == "safetensors"


def test_what_lies_beside_the_weights_is_named(tmp_path: Path) -> None:
    document = {"state_dict": {**STATE, "note": "text"}, "optimizer_states": [{}], "global_step": 7}
    file = opened(saved(tmp_path / "a.ckpt", document))
    assert (file.entries, file.step) == (["optimizer_states", "global_step", "note"], 7)


def test_numbers_of_numpy_beside_the_weights_are_no_obstacle(tmp_path: Path) -> None:
    groups = [{"lr": np.float64(1e-4), "step": np.int64(7)}]
    torch.save({"state_dict": {"w": torch.ones(2)}, "optimizer": {"param_groups": groups}}, tmp_path / "trained.pt")

    file = opened(tmp_path / "trained.pt")

    assert list(file.tensors) == ["w"]
    assert file.entries == ["optimizer"]


def test_a_global_that_is_no_tensor_is_refused_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.ckpt", {"state_dict": STATE, "hyper_parameters": fractions.Fraction(1, 2)})
    with pytest.raises(Refused, match=r"fractions\.Fraction") as refused:
        opened(path)
    assert refused.value.reason == "PICKLE_REFUSED"


class Calls:
    """Unpickled, it calls `print`."""

    def __reduce__(self) -> Any:
        return print, ("the pickle was run",)


def test_a_pickle_that_calls_a_function_is_refused_and_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "a.ckpt", {"state_dict": STATE, "callbacks": Calls()})
    pickle.loads(pickle.dumps(Calls()))  # the same, run
    assert capsys.readouterr().out == "the pickle was run\n"
    with pytest.raises(Refused, match="print"):
        opened(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("document", [[1, 2], {"epoch": 3}, {"state_dict": {}}], ids=["list", "no tensors", "empty"])
def test_a_file_without_tensors_says_what_it_has(tmp_path: Path, document: Any) -> None:
    with pytest.raises(Refused) as refused:
        opened(saved(tmp_path / "a.ckpt", document))
    assert refused.value.reason == "NO_TENSORS"


def test_the_format_before_torch_1_6_is_refused_unopened(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"before 1\.6"):
        opened(saved(tmp_path / "a.ckpt", STATE, _use_new_zipfile_serialization=False))


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"PK\x03\x04", b"PK\x03\x04" + bytes(100)])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.ckpt").write_bytes(data)
    with pytest.raises(Refused) as refused:
        opened(tmp_path / "a.ckpt")
    assert refused.value.reason == "CHECKPOINT_UNREADABLE"


def test_a_program_of_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "a.pt"))
    with pytest.raises(Refused, match="TorchScript"):
        opened(tmp_path / "a.pt")


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def test_an_archive_of_torch_passes(tmp_path: Path) -> None:
    check_archive(saved(tmp_path / "a.ckpt", STATE))


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.ckpt", {"a/data.pkl": bytes(1 << 24)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 16
    with pytest.raises(Refused, match="compressed"):
        check_archive(path)


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    """Many entries of the list that point to one member: the archive says that it holds more than the file."""
    path = archive(tmp_path / "a.ckpt", {"a/data.pkl": b".", "a/data/0": bytes(10_000)})
    data = path.read_bytes()
    begin = data.rindex(b"PK\x01\x02")
    entry, end = data[begin : data.rindex(b"PK\x05\x06")], bytearray(data[data.rindex(b"PK\x05\x06") :])
    size = int.from_bytes(end[12:16], "little") + 5 * len(entry)
    end[8:10] = end[10:12] = (7).to_bytes(2, "little")
    end[12:16] = size.to_bytes(4, "little")
    path.write_bytes(data[: begin + len(entry)] + 5 * entry + end)
    assert len(zipfile.ZipFile(path).infolist()) == 7
    with pytest.raises(Refused, match="says that it holds"):
        check_archive(path)


@pytest.mark.parametrize("names", [[], ["a/data.pkl", "b/data.pkl"]])
def test_there_must_be_one_pickle(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(Refused, match=r"one data\.pkl"):
        check_archive(archive(tmp_path / "a.ckpt", {"a/version": b"3", **dict.fromkeys(names, b".")}))


def test_a_pickle_beyond_its_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_PICKLE_BYTES", 100)
    with pytest.raises(Refused, match="at most 100 bytes"):
        check_archive(saved(tmp_path / "a.ckpt", STATE))


def test_more_members_than_the_bound_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_MEMBERS", 3)
    with pytest.raises(Refused, match="at most 3"):
        check_archive(saved(tmp_path / "a.ckpt", STATE))


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (torch.zeros(1).expand(1 << 20), "larger than what the file has"),
        (torch.eye(3).to_sparse(), "no dense tensor"),
        (torch.zeros(3, device="meta"), "no dense tensor"),
    ],
    ids=["expanded", "sparse", "meta"],
)
def test_a_tensor_that_is_not_as_large_as_it_says_is_refused(tmp_path: Path, tensor: torch.Tensor, why: str) -> None:
    file = opened(saved(tmp_path / "a.ckpt", {"state_dict": {"model.a": tensor}}))
    with pytest.raises(Refused, match=why):
        reader.listing(file)


def test_a_name_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="at most 500"):
        reader.listing(opened(saved(tmp_path / "a.ckpt", {"a" * 501: torch.zeros(1)})))


def test_tied_tensors_are_written_each(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    file = opened(saved(tmp_path / "a.ckpt", {"a": shared, "b": shared, "c": shared[2:4]}))
    reader.write({name: (0, name) for name in "abc"}, [file], tmp_path / "out.safetensors")
    written = opened(tmp_path / "out.safetensors").tensors
    assert {name: tensor.tolist() for name, tensor in written.items()} == {
        "a": shared.tolist(), "b": shared.tolist(), "c": [2.0, 3.0],
    }  # fmt: skip


def test_reading_maps_the_file(tmp_path: Path) -> None:
    """A training checkpoint has several times the memory that its weights need: only those are read."""
    path = saved(tmp_path / "a.ckpt", {"state_dict": STATE, "optimizer_states": [torch.zeros(64 << 20)]})  # 256 MB
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    opened(path)
    grown = int(Path("/proc/self/statm").read_text().split()[1]) - resident
    assert grown * 4096 < 64 << 20

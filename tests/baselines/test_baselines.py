"""What the command makes with tiny models of the published architectures: audio, its length, its seed, its folder."""

import json
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from luthier_baselines.__main__ import main
from luthier_baselines.prompts import read_prompts, suite_file
from luthier_kit.rpc import InvalidRequest

ROWS = [
    {"prompt": "a rock song at 100 bpm", "seconds_total": 0.73, "seed": 7, "tempo_bpm": 100, "key": "A minor"},
    {"prompt": "calm piano", "seconds_total": 1.0},
]
GENERATORS = ["musicgen", "audioldm2"]
CODECS = ["encodec", "encodec_stereo", "dac"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def generate(model: str, weights: Path, out: Path, *more: str, rows: Sequence[dict[str, Any]] = ROWS) -> int:
    prompts = out.with_suffix(".json")
    prompts.write_text(json.dumps({"rows": rows}))
    steps = ["--steps", "2"] if model == "audioldm2" else []
    return main(
        ["generate", model, "--weights", str(weights), "--prompts", str(prompts), "--out", str(out), *steps, *more]
    )


def audio(out: Path, name: str = "0000") -> tuple[NDArray[np.float64], int]:
    samples, rate = soundfile.read(out / f"{name}.flac", always_2d=True)
    return samples, rate


@pytest.mark.parametrize("model", GENERATORS)
def test_prompts_become_audio_of_exactly_their_lengths_at_the_models_own_rate(
    model: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    assert generate(model, request.getfixturevalue(model), tmp_path / "out") == 0
    rate = {"musicgen": 8000, "audioldm2": 16_000}[model]
    for name, seconds in (("0000", 0.73), ("0001", 1.0)):
        samples, found = audio(tmp_path / "out", name)
        assert (found, samples.shape) == (rate, (round(seconds * rate), 1))
        for part in np.array_split(samples, 4):
            assert part.std() > 0  # to its end: nothing was filled with silence


@pytest.mark.parametrize("model", GENERATORS)
def test_the_same_seed_is_the_same_audio_whatever_was_done_before_and_another_is_other_audio(
    model: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    weights = request.getfixturevalue(model)
    row = {"prompt": "a rock song", "seconds_total": 0.5}
    generate(model, weights, tmp_path / "a", rows=[{**row, "seed": 1}, {**row, "seed": 2}])
    generate(model, weights, tmp_path / "b", rows=[{**row, "seed": 2}])
    first, second = audio(tmp_path / "a", "0000")[0], audio(tmp_path / "a", "0001")[0]
    assert not np.array_equal(first, second)
    assert np.array_equal(second, audio(tmp_path / "b")[0])


def test_another_prompt_is_other_audio(musicgen: Path, tmp_path: Path) -> None:
    rows = [{"prompt": text, "seconds_total": 1, "seed": 1} for text in ("calm piano", "a fast rock song")]
    generate("musicgen", musicgen, tmp_path / "out", "--guidance-scale", "20", rows=rows)
    assert not np.array_equal(audio(tmp_path / "out", "0000")[0], audio(tmp_path / "out", "0001")[0])


def test_what_luthier_score_reads_is_beside_the_audio(musicgen: Path, tmp_path: Path) -> None:
    generate("musicgen", musicgen, tmp_path / "out")
    rows = json.loads((tmp_path / "out/prompts.json").read_text())["rows"]
    assert rows[0] == {
        "file": "0000.flac", "prompt": "a rock song at 100 bpm", "seconds_total": 0.73, "tempo_bpm": 100.0,
        "key": "A minor",
    }  # fmt: skip
    assert [row["file"] for row in rows] == sorted(path.name for path in (tmp_path / "out").glob("*.flac"))


def test_a_second_run_does_nothing_and_a_run_that_was_cut_off_goes_on(
    musicgen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    generate("musicgen", musicgen, out)
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.flac")}
    assert generate("musicgen", musicgen, out) == 0
    assert "0 rows done, 2 were done before" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.flac")} == times
    kept = audio(out, "0001")[0]
    (out / "0001.flac").unlink()
    generate("musicgen", musicgen, out)
    assert "1 rows done, 1 were done before" in capsys.readouterr().out
    assert np.array_equal(audio(out, "0001")[0], kept)


def test_a_row_that_asks_for_something_else_now_is_done_again(
    musicgen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate("musicgen", musicgen, tmp_path / "out")
    generate("musicgen", musicgen, tmp_path / "out", rows=[ROWS[0], {**ROWS[1], "seconds_total": 0.6}])
    assert "1 rows done, 1 were done before" in capsys.readouterr().out
    assert len(audio(tmp_path / "out", "0001")[0]) == 4800


def test_a_folder_of_other_settings_or_of_others_is_left_alone(
    musicgen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate("musicgen", musicgen, tmp_path / "out")
    assert generate("musicgen", musicgen, tmp_path / "out", "--guidance-scale", "5") == 1
    assert "OTHER_SETTINGS" in capsys.readouterr().err
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/text.tex").write_text("years of work")
    assert generate("musicgen", musicgen, tmp_path / "thesis") == 1
    assert "FOLDER_NOT_OURS" in capsys.readouterr().err


@pytest.mark.parametrize(("model", "folder"), [("musicgen", "encodec"), ("audioldm2", "musicgen"), ("musicgen", None)])
def test_a_folder_that_is_no_such_model_is_refused_before_anything_is_loaded(
    model: str, folder: str | None, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = request.getfixturevalue(folder) if folder else tmp_path
    assert generate(model, weights, tmp_path / "out") == 1
    assert "WEIGHTS_INVALID" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pickles_are_not_opened(musicgen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(musicgen, tmp_path / "weights")
    (tmp_path / "weights/model.safetensors").rename(tmp_path / "weights/pytorch_model.bin")
    assert generate("musicgen", tmp_path / "weights", tmp_path / "out") == 1
    assert "only safetensors are opened, there is pytorch_model.bin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "file", "lost"),
    [
        ("musicgen", "model.safetensors", "decoder.model.decoder.layers.0.fc1.weight"),
        ("audioldm2", "unet/diffusion_pytorch_model.safetensors", "conv_in.weight"),
        ("audioldm2", "text_encoder_2/model.safetensors", "encoder.final_layer_norm.weight"),
    ],
)
def test_weights_that_lack_a_tensor_are_refused(
    model: str, file: str, lost: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(request.getfixturevalue(model), tmp_path / "weights")
    tensors = load_file(tmp_path / "weights" / file)
    kept = {name: one for name, one in tensors.items() if name != lost}
    assert len(kept) == len(tensors) - 1
    save_file(kept, tmp_path / "weights" / file, {"format": "pt"})
    assert generate(model, tmp_path / "weights", tmp_path / "out") == 1
    assert f"lacks 1 tensors, such as {lost}" in capsys.readouterr().err


def test_a_length_beyond_musicgens_positions_is_refused(
    musicgen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("musicgen", musicgen, tmp_path / "out", "--seconds", "5.5") == 1
    assert "must be at most 5.08 for these weights, got 5.5" in capsys.readouterr().err  # 512 positions, 100 a second


def tones(folder: Path, *, channels: int, seconds: float = 1.37) -> None:
    folder.mkdir()
    time_s = np.arange(round(seconds * 44_100)) / 44_100
    sound = 0.3 * np.stack([np.sin(2 * np.pi * hz * time_s) for hz in (220, 331)[:channels]], axis=1)
    (folder / "band").mkdir()
    soundfile.write(folder / "band/song at 120 bpm.wav", sound, 44_100)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("codec", CODECS)
def test_a_reconstruction_is_as_long_as_its_original_and_has_its_channels(
    codec: str, channels: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    tones(tmp_path / "originals", channels=channels)
    out, kind = tmp_path / "out", codec.partition("_")[0]
    weights = str(request.getfixturevalue(codec))
    assert (
        main(["reconstruct", kind, "--weights", weights, "--audio", str(tmp_path / "originals"), "--out", str(out)])
        == 0
    )
    rate = 16_000 if kind == "dac" else 8000
    samples, found = audio(out, "0000-song at 120 bpm")
    assert (found, samples.shape) == (rate, (round(1.37 * rate), channels))
    assert all(part.std() > 0 for part in np.array_split(samples, 8))
    [row] = json.loads((out / "prompts.json").read_text())["rows"]
    assert (row["file"], row["reference"]) == ("0000-song at 120 bpm.flac", "band/song at 120 bpm.wav")
    assert (row["tempo_bpm"], row["genres"]) == (None, [])  # the name is no prompt


def test_encodec_takes_the_bandwidth_that_is_asked_for_and_no_other(
    encodec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tones(tmp_path / "originals", channels=1)
    line = ["reconstruct", "encodec", "--weights", str(encodec), "--audio", str(tmp_path / "originals"), "--out"]
    assert main([*line, str(tmp_path / "low"), "--kbps", "0.4"]) == 0
    assert main([*line, str(tmp_path / "high")]) == 0  # the highest, where there is no 6
    name = "0000-song at 120 bpm"
    assert not np.array_equal(audio(tmp_path / "low", name)[0], audio(tmp_path / "high", name)[0])
    assert json.loads((tmp_path / "high/baseline.json").read_text())["settings"]["options"] == {"kbps": 1.6}
    assert main([*line, str(tmp_path / "none"), "--kbps", "3"]) == 1
    assert "must be one of 0.4, 0.8, 1.6 for these weights, got 3" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_no_silent_fallback(
    musicgen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("musicgen", musicgen, tmp_path / "out", "--device", "cuda:63") == 1
    assert "DEVICE_MISSING" in capsys.readouterr().err


def test_a_suite_that_evaluation_ships_is_known_by_its_name() -> None:
    rows = read_prompts(suite_file("paper-tempo"))
    assert len(rows) > 100
    assert all("tempo_bpm" in row.facts for row in rows)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([], "must have 1 to 5000 prompts, got 0"),
        ([{"prompt": " "}], "row 0: prompt must be 1 to 2000 characters, got 0"),
        ([{"prompt": "a", "seconds_total": 601}], "row 0: seconds_total must be between 0.5 and 600, got '601'"),
        ([{"prompt": "a", "seed": 1 << 40}], "row 0: seed must be between 0 and 4.29497e+09"),
        ([{"prompt": "a", "file": "../a"}], "row 0: file must be a plain name"),
        ([{"prompt": "a", "file": "x"}, {"prompt": "b", "file": "x.wav"}], "row 1: file x stands twice"),
    ],
)
def test_faults_of_the_prompts_are_told_by_row(tmp_path: Path, rows: list[dict[str, Any]], fault: str) -> None:
    (tmp_path / "prompts.json").write_text(json.dumps(rows))
    with pytest.raises(InvalidRequest) as caught:
        read_prompts(tmp_path / "prompts.json")
    assert fault in str(caught.value)


def test_prompts_may_be_a_table(tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text('file,prompt,tempo_bpm,seconds_total\none.flac,"rock, fast",120,8\n')
    [row] = read_prompts(tmp_path / "prompts.csv")
    assert (row.name, row.prompt, row.seconds, row.facts) == ("one", "rock, fast", 8, {"tempo_bpm": "120"})

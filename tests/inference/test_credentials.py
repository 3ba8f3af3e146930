"""Content credentials, as a reader of c2pa-python finds them in what the service made."""

import contextlib
import io
import json
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import c2pa
import grpc
import numpy as np
import pytest
import soundfile

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1.inference_pb2_grpc import InferenceServiceStub
from luthier_inference.app import build_service
from luthier_inference.audio import FORMATS
from luthier_inference.credentials.certificate import for_development
from luthier_inference.credentials.found import found_in
from luthier_inference.credentials.signing import sign
from luthier_inference.credentials.statement import Statement
from luthier_inference.credentials.wav import holds_a_manifest_more
from luthier_inference.request import OUTPUT_FORMATS
from luthier_kit.registry import register
from luthier_kit.rpc import SettingsError
from luthier_kit.store import Action
from tests.model.small import ModelFiles
from tests.support.hostile_bytes import damaged
from tests.support.services import running, temp_store

from .conftest import PROMPT, Served, request, settings_for, version_of

SIGNED = (pb.OUTPUT_FORMAT_FLAC, pb.OUTPUT_FORMAT_FLAC_24, pb.OUTPUT_FORMAT_WAV, pb.OUTPUT_FORMAT_WAV_FLOAT,
          pb.OUTPUT_FORMAT_WAV_24, pb.OUTPUT_FORMAT_MP3)  # fmt: skip


def serve(model_files: ModelFiles, folder: Path, **settings: Any) -> Iterator[Served]:
    chosen = settings_for(folder, default_model="tiny", **settings)
    with temp_store(folder / "store") as store:
        register(store, version_of(store, model_files, "tiny"))
        with running(build_service(chosen, store), chosen) as address, grpc.insecure_channel(address) as channel:
            yield Served(store, InferenceServiceStub(channel), address)


@pytest.fixture(scope="module")
def signing(model_files: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from serve(model_files, tmp_path_factory.mktemp("signing"), credentials="sign")


@pytest.fixture(scope="module")
def silent(model_files: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from serve(model_files, tmp_path_factory.mktemp("silent"), credentials="off")


def read(data: bytes, media_type: str) -> dict[str, Any]:
    """What a reader says of a file."""
    with c2pa.Reader(media_type, io.BytesIO(data)) as reader:
        told: dict[str, Any] = json.loads(reader.json())
    return told


def manifest(data: bytes, media_type: str = "audio/flac") -> dict[str, Any]:
    told = read(data, media_type)
    found: dict[str, Any] = told["manifests"][told["active_manifest"]]
    return found


def signers() -> list[int]:
    """Processes that this one began, to sign."""
    tasks = Path("/proc/self/task").iterdir()
    children = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    return [pid for pid in children if "libc2pa_c" in Path(f"/proc/{pid}/maps").read_text()]


@pytest.mark.parametrize("form", SIGNED)
def test_what_was_made_says_so_and_sounds_the_same(signing: Served, silent: Served, form: "pb.OutputFormat") -> None:
    asked = request(seed=11, output_format=form, inline_audio=True)

    made, plain = signing.stub.Generate(asked), silent.stub.Generate(asked)

    told = read(made.inline_audio, FORMATS[OUTPUT_FORMATS[form]].media_type)
    assert told["validation_state"] == "Valid"
    assert [fault["code"] for fault in told["validation_status"]] == ["signingCredential.untrusted"]
    found, expected = (soundfile.read(io.BytesIO(each.inline_audio))[0] for each in (made, plain))
    assert np.array_equal(found, expected)
    assert made.marks.credentials == pb.CREDENTIALS_STATE_SIGNED_FOR_DEVELOPMENT
    assert plain.marks.credentials == pb.CREDENTIALS_STATE_OFF


def with_credentials(folder: Path, data: bytes) -> bytes:
    """A WAV file, signed."""
    made, source, signed = for_development(folder / "made"), folder / "a.wav", folder / "signed.wav"
    source.write_bytes(data)
    signed.unlink(missing_ok=True)
    statement = Statement("a", "m@1", "sha256:0", 1, "b").document()
    sign(source, signed, "audio/wav", statement, made.chain, made.key, made.algorithm, "")
    return signed.read_bytes()


def wav(frames: int, channels: int, subtype: str, form: str = "WAV") -> bytes:
    file = io.BytesIO()
    sound = np.random.default_rng(1).uniform(-1, 1, (frames, channels))
    soundfile.write(file, sound, 44_100, subtype=subtype, format=form)
    return file.getvalue()


@pytest.mark.parametrize("number", range(6))  # a manifest has an odd or an even length, by chance of its signature
@pytest.mark.parametrize("data", [wav(4410, 2, "PCM_16"), wav(4411, 1, "PCM_24")], ids=["even", "odd"])
def test_a_wav_keeps_every_byte_but_its_length(tmp_path: Path, data: bytes, number: int) -> None:
    signed = with_credentials(tmp_path, data)

    assert read(signed, "audio/wav")["validation_state"] == "Valid", number
    assert (signed[:4], signed[8 : len(data)]) == (data[:4], data[8:])
    assert int.from_bytes(signed[4:8], "little") == len(signed) - 8


@pytest.mark.parametrize("data", [
    wav(4410, 2, "PCM_16") + b"more", wav(441, 2, "PCM_16", "RF64"), wav(441, 2, "PCM_16")[:-3],
    b"RIFF\0\0\0\0WAVEdata", b"",
], ids=["more behind it", "RF64", "cut off", "no size", "empty"])  # fmt: skip
def test_what_is_no_whole_wav_is_left_to_the_library(data: bytes) -> None:
    assert not holds_a_manifest_more(io.BytesIO(data))


def test_what_has_credentials_is_signed_by_the_library(tmp_path: Path) -> None:
    once = with_credentials(tmp_path, wav(4410, 2, "PCM_16"))

    twice = with_credentials(tmp_path, once)

    assert not holds_a_manifest_more(io.BytesIO(once))
    assert read(twice, "audio/wav")["validation_state"] == "Valid"
    assert twice.count(b"C2PA") == 1


@pytest.mark.parametrize("at", [5, 30, -4000, -5000])
def test_one_flipped_bit_of_a_wav_is_found(tmp_path: Path, at: int) -> None:
    data = bytearray(with_credentials(tmp_path, wav(4410, 2, "PCM_16")))
    data[at] ^= 1

    with contextlib.suppress(c2pa.C2paError):  # a chunk whose name or size is another one may not be read at all
        assert read(bytes(data), "audio/wav")["validation_state"] == "Invalid"


def test_credentials_state_the_model_and_where_everything_else_is(signing: Served) -> None:
    made = signing.stub.Generate(request(seed=2**64 - 1, inline_audio=True))

    found = manifest(made.inline_audio)

    assertions = {each["label"]: each["data"] for each in found["assertions"]}
    [created] = assertions["c2pa.actions.v2"]["actions"]
    assert created["action"] == "c2pa.created"
    assert created["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert assertions["org.luthier.generation"] == {
        "model": "tiny@1", "model_digest": made.model_digest, "seed": str(2**64 - 1), "action": made.action.action_key,
    }  # fmt: skip
    [model] = found["ingredients"]
    assert (model["title"], model["instance_id"]) == ("tiny@1", made.model_digest)


def test_nothing_of_the_prompt_is_in_the_credentials(signing: Served) -> None:
    made = signing.stub.Generate(request(prompt="zithers for Ada", seed=5, inline_audio=True))

    assert "zither" not in json.dumps(read(made.inline_audio, "audio/flac"))


def test_one_flipped_bit_is_found(signing: Served) -> None:
    data = bytearray(signing.stub.Generate(request(seed=3, inline_audio=True)).inline_audio)
    data[-100] ^= 1

    told = read(bytes(data), "audio/flac")

    assert told["validation_state"] == "Invalid"
    assert "assertion.dataHash.mismatch" in [fault["code"] for fault in told["validation_status"]]


@pytest.mark.parametrize("form", [pb.OUTPUT_FORMAT_OGG_VORBIS, pb.OUTPUT_FORMAT_OGG_OPUS])
def test_a_format_that_holds_none_says_so(signing: Served, form: "pb.OutputFormat") -> None:
    made = signing.stub.Generate(request(seed=4, output_format=form))

    assert made.marks.credentials == pb.CREDENTIALS_STATE_FORMAT_HOLDS_NONE
    assert not made.marks.credentials_issuer


def test_every_seed_of_a_request_has_credentials_of_its_own(signing: Served) -> None:
    made = signing.stub.Generate(request(seeds=[21, 22]))

    refs = (made.audio, *(each.audio for each in made.others))
    seeds = [
        next(a["data"]["seed"] for a in manifest(signing.store.blobs.read(ref))["assertions"] if "seed" in a["data"])
        for ref in refs
    ]
    assert seeds == ["21", "22"]
    assert made.others[0].marks == made.marks


def test_audio_that_was_made_with_a_given_sound_says_so(signing: Served) -> None:
    given = signing.stub.Generate(request(seed=6)).audio

    made = signing.stub.Generate(request(seed=7, init_audio=given, init_noise_level=1.0, inline_audio=True))

    found = manifest(made.inline_audio)
    [created] = found["assertions"][0]["data"]["actions"]
    assert created["digitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert found["ingredients"][1]["instance_id"] == f"sha256:{given.sha256}"


def test_signed_audio_can_be_started_from(signing: Served, silent: Served) -> None:
    asked = {"init_noise_level": 1.0, "output_format": pb.OUTPUT_FORMAT_WAV_FLOAT, "inline_audio": True, "seed": 9}
    found, expected = (
        soundfile.read(io.BytesIO(
            served.stub.Generate(request(init_audio=served.stub.Generate(request(seed=8)).audio, **asked)).inline_audio
        ))[0]
        for served in (signing, silent)
    )  # fmt: skip

    assert np.array_equal(found, expected)


def test_a_stored_answer_keeps_its_credentials(signing: Served) -> None:
    made = signing.stub.Generate(request(seed=31))
    again = signing.stub.Generate(request(seed=31))

    assert again.action.reused
    assert (again.audio, again.marks) == (made.audio, made.marks)


def test_the_process_that_signs_may_die(signing: Served) -> None:
    signing.stub.Generate(request(seed=41))
    killed = signers()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)

    made = signing.stub.Generate(request(seed=42, inline_audio=True))

    assert killed
    assert read(made.inline_audio, "audio/flac")["validation_state"] == "Valid"


def test_an_operators_certificate_signs(model_files: ModelFiles, tmp_path: Path) -> None:
    theirs = for_development(tmp_path / "theirs")
    paths = {"credentials_certificate": str(theirs.chain), "credentials_key": str(theirs.key)}

    for served in serve(model_files, tmp_path, **paths):
        made = served.stub.Generate(request(seed=1, inline_audio=True))

        assert made.marks.credentials == pb.CREDENTIALS_STATE_SIGNED
        assert made.marks.credentials_issuer == "Luthier development"
        assert manifest(made.inline_audio)["signature_info"]["issuer"] == "Luthier development"


def test_what_cannot_be_signed_is_not_given_away(model_files: ModelFiles, tmp_path: Path) -> None:
    theirs = for_development(tmp_path / "theirs")
    paths = {"credentials_certificate": str(theirs.chain), "credentials_key": str(theirs.key)}

    for served in serve(model_files, tmp_path, **paths):
        theirs.key.write_text("no key any more")
        with pytest.raises(grpc.RpcError) as refused:
            served.stub.Generate(request(seed=1))

        assert refused.value.code() is grpc.StatusCode.INTERNAL
        assert not list(served.store.objects.keys("generated/"))


@pytest.mark.parametrize(("wrong", "told"), [
    ("other key", "LUTHIER_CREDENTIALS_KEY is not the key of"),
    ("no key", "LUTHIER_CREDENTIALS_KEY cannot be read"),
    ("no certificate", "LUTHIER_CREDENTIALS_CERTIFICATE cannot be read"),
])  # fmt: skip
def test_a_certificate_that_cannot_sign_is_named_at_the_start(tmp_path: Path, wrong: str, told: str) -> None:
    one, other = for_development(tmp_path / "one"), for_development(tmp_path / "other")
    (tmp_path / "text").write_text("neither")
    chain = tmp_path / "text" if wrong == "no certificate" else one.chain
    key = {"other key": other.key, "no key": tmp_path / "text"}.get(wrong, one.key)
    settings = settings_for(tmp_path, credentials_certificate=str(chain), credentials_key=str(key))

    with temp_store(tmp_path / "store") as store, pytest.raises(SettingsError, match=told):
        build_service(settings, store)


def test_half_a_certificate_is_named_at_the_start(tmp_path: Path) -> None:
    [fault] = settings_for(tmp_path, credentials_key=str(for_development(tmp_path).key)).faults()

    assert "go together" in fault


def test_only_this_user_reads_the_development_key(tmp_path: Path) -> None:
    assert for_development(tmp_path / "made").key.stat().st_mode & 0o077 == 0


def test_audio_of_the_first_release_is_found_under_its_name(silent: Served) -> None:
    """As the code of release 0.1 named this request, without credentials; what it did not know of changes nothing."""
    version = silent.stub.ListModels(pb.ListModelsRequest(name="tiny")).models[0].digest.removeprefix("sha256:")
    named = Action(
        "generate",
        inputs=[version],
        seed=7,
        parameters={
            "prompt": PROMPT, "seconds_total": 1.5, "seconds_start": 0.0, "negative_prompt": "", "steps": 4,
            "sampler": "dpmpp-3m-sde", "sigma_min": 0.3, "sigma_max": 500.0, "guidance_scale": 7.0,
            "guidance_rescale": 0.0, "init_noise_level": 0.0, "untrimmed": False, "output_format": "flac",
            "precision": "float32",
        },
        version="1",
        tools={"stable-audio-tools": "0.0.19"},
    )  # fmt: skip

    asked = request(seed=7, seconds_total=1.5, guidance_from=0.0, guidance_to=1.0)
    assert silent.stub.Generate(asked).action.action_key.startswith(f"actions/generate/{named.digest}")


def detected(served: Served, data: bytes, extension: str = "flac") -> pb.DetectMarksResponse:
    """What the service says of a file that was sent to it."""
    ref = served.store.blobs.put_bytes("audio", data, extension, "application/octet-stream")
    return served.stub.DetectMarks(pb.DetectMarksRequest(audio=ref))


def test_an_output_is_known_with_what_made_it(signing: Served) -> None:
    made = signing.stub.Generate(request(seed=51, inline_audio=True))

    found = detected(signing, made.inline_audio)

    assert found.output_key == made.audio.key
    assert found.credentials == pb.FoundCredentials(
        finding=pb.CREDENTIALS_FINDING_INTACT, issuer="Luthier development", made_by_model=True, model="tiny@1",
        model_digest=made.model_digest, seed="51", action_key=made.action.action_key,
        claim_generator=found.credentials.claim_generator, trust=pb.CREDENTIALS_TRUST_NOT_ASKED,
    )  # fmt: skip
    assert found.credentials.claim_generator.startswith("Luthier ")


@pytest.mark.parametrize(("form", "extension"), [(pb.OUTPUT_FORMAT_FLAC, "flac"), (pb.OUTPUT_FORMAT_WAV, "wav"),
                                                 (pb.OUTPUT_FORMAT_MP3, "mp3")])  # fmt: skip
def test_a_changed_file_is_told_from_an_intact_one(signing: Served, form: "pb.OutputFormat", extension: str) -> None:
    data = bytearray(signing.stub.Generate(request(seed=52, output_format=form, inline_audio=True)).inline_audio)
    data[len(data) // 2] ^= 4  # of the sound: a WAV has its credentials at the end

    found = detected(signing, bytes(data), extension)

    assert found.credentials.finding == pb.CREDENTIALS_FINDING_CHANGED
    assert "assertion.dataHash.mismatch" in found.credentials.faults
    assert not found.output_key


def test_what_was_encoded_anew_has_none(signing: Served) -> None:
    made = signing.stub.Generate(request(seed=53, inline_audio=True))
    anew = io.BytesIO()
    soundfile.write(anew, *soundfile.read(io.BytesIO(made.inline_audio)), format="FLAC")

    assert detected(signing, anew.getvalue()).credentials.finding == pb.CREDENTIALS_FINDING_NONE


def test_a_server_that_signs_nothing_reads_what_others_signed(signing: Served, silent: Served) -> None:
    made = signing.stub.Generate(request(seed=54, inline_audio=True))

    assert detected(silent, made.inline_audio).credentials.finding == pb.CREDENTIALS_FINDING_INTACT


@pytest.mark.parametrize(("data", "extension", "finding"), [
    (b"RIFF\x00\x00", "wav", pb.CREDENTIALS_FINDING_UNREADABLE),
    (b"OggS", "ogg", pb.CREDENTIALS_FINDING_NONE),
    (b"hello", "txt", pb.CREDENTIALS_FINDING_NONE),
])  # fmt: skip
def test_what_is_no_audio_has_none_or_is_damaged(
    silent: Served, data: bytes, extension: str, finding: "pb.CredentialsFinding"
) -> None:
    assert detected(silent, data, extension).credentials.finding == finding


def test_a_claim_of_others_is_read_and_not_believed() -> None:
    told = {"active_manifest": "a", "validation_state": "Valid", "manifests": {"a": {
        "claim_generator_info": [{"name": "Other", "version": "2"}], "signature_info": {"issuer": ["no text"]},
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": "none"}}, "x", {"label": 3}],
    }}}  # fmt: skip

    found = found_in(json.dumps(told), listed=False)

    assert (found.claim_generator, found.issuer, found.model, found.made_by_model) == ("Other 2", "", "", False)


def test_what_is_no_manifest_store_is_refused() -> None:
    with pytest.raises(ValueError, match="is no manifest store"):
        found_in("[]", listed=False)


@pytest.mark.parametrize("extension", ["flac", "wav", "mp3"])
def test_damaged_files_are_answered(signing: Served, extension: str) -> None:
    form = {"flac": pb.OUTPUT_FORMAT_FLAC, "wav": pb.OUTPUT_FORMAT_WAV, "mp3": pb.OUTPUT_FORMAT_MP3}[extension]
    whole = signing.stub.Generate(request(seed=55, output_format=form, inline_audio=True)).inline_audio

    found = Counter(
        detected(signing, damaged(whole, random.Random(number)), extension).credentials.finding for number in range(20)
    )

    assert found.total() == 20
    assert found[pb.CREDENTIALS_FINDING_UNSPECIFIED] == 0


@pytest.mark.parametrize(("extension", "media_type"), [("flac", "audio/flac"), ("wav", "audio/wav")])
def test_an_address_in_a_file_is_not_asked(signing: Served, tmp_path: Path, extension: str, media_type: str) -> None:
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    certificate, plain, named = for_development(tmp_path), tmp_path / f"a.{extension}", tmp_path / f"b.{extension}"
    soundfile.write(plain, np.zeros((441, 2)), 44_100)
    info = c2pa.C2paSignerInfo(b"es256", certificate.chain.read_bytes(), certificate.key.read_bytes(), None)
    with (
        c2pa.Builder(Statement("a", "m@1", "sha256:0", 1, "b").document()) as builder,
        plain.open("rb") as source,
        named.open("w+b") as target,
    ):
        builder.set_no_embed()
        builder.set_remote_url(f"http://127.0.0.1:{server.server_port}/credentials.c2pa")
        builder.sign(c2pa.Signer.from_info(info), media_type, source, target)
    with pytest.raises(c2pa.C2paError), named.open("rb") as file:
        c2pa.Reader(media_type, file)
    assert asked == ["/credentials.c2pa"], "a reader with its own settings asks"

    found = detected(signing, named.read_bytes(), extension)

    server.shutdown()
    assert found.credentials.finding == pb.CREDENTIALS_FINDING_NONE
    assert len(asked) == 1

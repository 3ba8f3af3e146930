"""Time stamps and trust lists of content credentials, with authorities of the test's own."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference import metrics
from luthier_inference.credentials.certificate import Certificate, for_development, operators
from luthier_inference.credentials.found import found_in
from luthier_inference.credentials.signer import NOBODY, Credentials, Signer, TimeAuthority
from luthier_inference.credentials.statement import Statement
from luthier_inference.credentials.trust import anchors_of, operators_anchors
from luthier_kit.rpc import Internal, SettingsError, Unavailable
from tests.model.small import ModelFiles
from tests.support.authorities import DOCUMENT_SIGNING, Answers, Issued, TimeStamping, root, signer, time_stamping

from .conftest import request, settings_for
from .test_credentials import serve

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
STATEMENT = Statement("a song", "demo@1", "sha256:12", 7, "actions/generate/34.json")


@dataclass(frozen=True)
class Authorities:
    """Above signers, above authorities of time, and above neither."""

    signers: Issued
    time: Issued
    other: Issued

    def anchors(self, names: str) -> str:
        """Those that are named, as PEM."""
        return b"".join(getattr(self, name).pem for name in names.split()).decode()


@pytest.fixture(scope="module")
def authorities() -> Authorities:
    return Authorities(root("Test root"), root("Test time root"), root("Other root"))


@pytest.fixture(scope="module")
def stamping(authorities: Authorities, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TimeStamping]:
    with time_stamping(authorities.time, tmp_path_factory.mktemp("authority")) as stamping:
        yield stamping


class NoCall:
    """Of a caller who waits for as long as it takes."""

    def time_remaining(self) -> None:
        return None

    def add_callback(self, callback: object) -> bool:
        return True


@contextmanager
def signing(certificate: Certificate | None, authority: TimeAuthority = NOBODY, anchors: str = "") -> Iterator[Signer]:
    own = Signer(certificate, authority, anchors)
    try:
        yield own
    finally:
        own.close()


def samples() -> npt.NDArray[np.int16]:
    return np.random.default_rng(5).integers(-20_000, 20_000, (22_050, 2), dtype=np.int16)


def song(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / "song.flac", samples(), 44_100)
    return folder / "song.flac"


def signed(own: Signer, folder: Path) -> tuple[Path, Credentials]:
    path = song(folder)
    return path, own.sign(path, "audio/flac", STATEMENT)


def found(own: Signer, path: Path, anchors: str = "") -> pb.FoundCredentials:
    return own.found_in(path, "audio/flac", NoCall(), anchors)


@pytest.fixture(scope="module")
def reader() -> Iterator[Signer]:
    with signing(None) as own:
        yield own


@pytest.fixture(scope="module")
def stamped(
    authorities: Authorities, stamping: TimeStamping, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Credentials]:
    """A file signed by an operator's certificate with a time stamp."""
    folder = tmp_path_factory.mktemp("stamped")
    with signing(signer(authorities.signers).stored(folder / "own"), TimeAuthority(stamping.address)) as own:
        return signed(own, folder / "song")


@pytest.fixture(scope="module")
def unstamped(authorities: Authorities, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unstamped")
    with signing(signer(authorities.signers).stored(folder / "own")) as own:
        return signed(own, folder / "song")[0]


def test_a_stamp_states_when_a_file_was_signed_and_who_says_so(
    stamped: tuple[Path, Credentials], reader: Signer
) -> None:
    path, credentials = stamped

    told = found(reader, path)

    assert credentials == Credentials(pb.CREDENTIALS_STATE_SIGNED, "Acme Music", pb.TIME_STAMP_STATE_STAMPED)
    assert told.finding == pb.CREDENTIALS_FINDING_INTACT
    assert told.time_authority == "Test time authority"
    age = datetime.now(UTC) - told.stamped_at.ToDatetime(UTC)
    assert timedelta(seconds=-2) < age < timedelta(minutes=10)


def test_samples_of_a_stamped_file_are_the_same(stamped: tuple[Path, Credentials]) -> None:
    assert np.array_equal(soundfile.read(stamped[0], dtype="int16")[0], samples())


def test_without_an_authority_no_time_is_told(unstamped: Path, reader: Signer) -> None:
    told = found(reader, unstamped)

    assert (told.HasField("stamped_at"), told.time_authority, told.time_authority_trusted) == (False, "", False)


@pytest.mark.parametrize(
    ("names", "trust", "time_trusted"),
    [
        ("", pb.CREDENTIALS_TRUST_NOT_ASKED, False),
        ("other", pb.CREDENTIALS_TRUST_NOT_LISTED, False),
        ("time", pb.CREDENTIALS_TRUST_NOT_LISTED, True),
        ("other signers", pb.CREDENTIALS_TRUST_TRUSTED, False),
        ("signers time", pb.CREDENTIALS_TRUST_TRUSTED, True),
    ],
)
def test_a_list_says_who_is_trusted(
    authorities: Authorities, stamped: tuple[Path, Credentials], reader: Signer, names: str,
    trust: "pb.CredentialsTrust", time_trusted: bool,
) -> None:  # fmt: skip
    told = found(reader, stamped[0], authorities.anchors(names))

    assert told.finding == pb.CREDENTIALS_FINDING_INTACT
    assert (told.trust, told.time_authority_trusted) == (trust, time_trusted)
    assert not told.faults


def test_the_operators_list_is_asked_where_a_request_brings_none(
    authorities: Authorities, unstamped: Path
) -> None:  # fmt: skip
    with signing(None, anchors=authorities.anchors("signers")) as own:
        assert found(own, unstamped).trust == pb.CREDENTIALS_TRUST_TRUSTED
        assert found(own, unstamped, authorities.anchors("other")).trust == pb.CREDENTIALS_TRUST_NOT_LISTED


def test_a_changed_file_of_a_trusted_signer_is_changed(
    authorities: Authorities, stamped: tuple[Path, Credentials], reader: Signer, tmp_path: Path
) -> None:
    data = bytearray(stamped[0].read_bytes())
    data[-100] ^= 1
    (tmp_path / "song.flac").write_bytes(data)

    told = found(reader, tmp_path / "song.flac", authorities.anchors("signers time"))

    assert (told.finding, told.trust) == (pb.CREDENTIALS_FINDING_CHANGED, pb.CREDENTIALS_TRUST_UNSPECIFIED)
    assert not told.HasField("stamped_at")


def test_no_list_trusts_a_certificate_for_development(authorities: Authorities, reader: Signer, tmp_path: Path) -> None:
    with signing(for_development(tmp_path / "own")) as own:
        path, _ = signed(own, tmp_path / "song")

    assert found(reader, path, authorities.anchors("signers time")).trust == pb.CREDENTIALS_TRUST_NOT_LISTED


@pytest.fixture(scope="module")
def expired(
    authorities: Authorities, stamping: TimeStamping, tmp_path_factory: pytest.TempPathFactory
) -> dict[bool, Path]:
    """Files whose signer's certificate has expired since, by whether they have a stamp."""
    for valid_s in (2, 8, 32):  # as short as this machine is quick
        folder = tmp_path_factory.mktemp("expired")
        soon = signer(authorities.signers, valid_s=valid_s)
        certificate, paths = soon.stored(folder / "own"), dict[bool, Path]()
        try:
            for stamp in (True, False):
                with signing(certificate, TimeAuthority(stamping.address if stamp else "")) as own:
                    paths[stamp], credentials = signed(own, folder / str(stamp))
                    assert (credentials.time_stamp == pb.TIME_STAMP_STATE_STAMPED) is stamp
        except Internal:
            continue
        while datetime.now(UTC) <= soon.certificate.not_valid_after_utc + timedelta(
            seconds=1
        ):  # readers cut to seconds
            time.sleep(0.05)
        return paths
    raise AssertionError("signing two files takes longer than a certificate of the test is valid")


@pytest.mark.parametrize(
    ("stamp", "names", "trust"),
    [
        (True, "signers time", pb.CREDENTIALS_TRUST_TRUSTED),
        (True, "signers", pb.CREDENTIALS_TRUST_EXPIRED),  # nobody on the list answers for the time
        (False, "signers time", pb.CREDENTIALS_TRUST_EXPIRED),
        (False, "", pb.CREDENTIALS_TRUST_EXPIRED),
    ],
)
def test_a_trusted_stamp_outlives_the_signers_certificate(
    authorities: Authorities, expired: dict[bool, Path], reader: Signer, stamp: bool, names: str,
    trust: "pb.CredentialsTrust",
) -> None:  # fmt: skip
    told = found(reader, expired[stamp], authorities.anchors(names))

    assert (told.finding, told.trust) == (pb.CREDENTIALS_FINDING_INTACT, trust)


@pytest.mark.parametrize("answers", [Answers.GARBAGE, Answers.FAULT, Answers.REFUSAL, Answers.STAMP_OF_OTHER_DATA])
def test_an_authority_that_gives_no_stamp_costs_no_audio_and_is_not_asked_at_once_again(
    authorities: Authorities, reader: Signer, tmp_path: Path, answers: Answers
) -> None:
    with (
        time_stamping(authorities.time, tmp_path / "authority", answers) as wrong,
        signing(signer(authorities.signers).stored(tmp_path / "own"), TimeAuthority(wrong.address)) as own,
    ):
        (path, first), (_, second) = signed(own, tmp_path / "one"), signed(own, tmp_path / "two")

    told = found(reader, path)
    assert first.time_stamp == second.time_stamp == pb.TIME_STAMP_STATE_NOT_GIVEN
    assert first.state == pb.CREDENTIALS_STATE_SIGNED
    assert (told.finding, told.HasField("stamped_at"), told.seed) == (pb.CREDENTIALS_FINDING_INTACT, False, "7")
    assert wrong.asked == 1


def test_an_authority_that_is_away_costs_no_audio(authorities: Authorities, reader: Signer, tmp_path: Path) -> None:
    with time_stamping(authorities.time, tmp_path / "authority") as gone:
        pass
    with signing(signer(authorities.signers).stored(tmp_path / "own"), TimeAuthority(gone.address)) as own:
        path, credentials = signed(own, tmp_path / "song")

    assert credentials.time_stamp == pb.TIME_STAMP_STATE_NOT_GIVEN
    assert found(reader, path).finding == pb.CREDENTIALS_FINDING_INTACT


def test_many_files_wait_once_for_an_authority_that_does_not_answer(
    authorities: Authorities, reader: Signer, tmp_path: Path
) -> None:
    with (
        time_stamping(authorities.time, tmp_path / "authority", Answers.NOTHING) as slow,
        signing(signer(authorities.signers).stored(tmp_path / "own"), TimeAuthority(slow.address, within_s=1.0)) as own,
    ):
        made: list[tuple[Path, Credentials]] = []
        threads = [
            threading.Thread(target=lambda name=name: made.append(signed(own, tmp_path / name))) for name in "abcd"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert [credentials.time_stamp for _, credentials in made] == 4 * [pb.TIME_STAMP_STATE_NOT_GIVEN]
    assert {found(reader, path).finding for path, _ in made} == {pb.CREDENTIALS_FINDING_INTACT}
    assert slow.asked == 1


def test_a_required_stamp_that_is_not_given_refuses_the_audio_and_says_when_to_ask_again(
    authorities: Authorities, tmp_path: Path
) -> None:
    with (
        time_stamping(authorities.time, tmp_path / "authority", Answers.FAULT) as wrong,
        signing(
            signer(authorities.signers).stored(tmp_path / "own"), TimeAuthority(wrong.address, required=True)
        ) as own,
    ):
        own.check("audio/flac")
        path = song(tmp_path / "song")
        before = path.read_bytes()
        with pytest.raises(Unavailable, match="no time stamp") as refused:
            own.sign(path, "audio/flac", STATEMENT)
        with pytest.raises(Unavailable) as at_once:
            own.check("audio/flac")
        own.check("audio/ogg")

    assert refused.value.reason == at_once.value.reason == "TIME_STAMP_MISSING"
    assert 1 < at_once.value.retry_after_s <= 60
    assert path.read_bytes() == before


def test_a_wrong_certificate_is_not_told_as_the_authoritys_fault(
    authorities: Authorities, stamping: TimeStamping, tmp_path: Path
) -> None:
    with (
        signing(
            signer(authorities.signers, valid_s=-60).stored(tmp_path / "own"),
            TimeAuthority(stamping.address, required=True),
        ) as own,
        pytest.raises(Internal, match="not valid at time of signing"),
    ):
        signed(own, tmp_path / "song")


def test_a_request_is_answered_with_its_stamp_and_read_back_by_a_list(
    authorities: Authorities, stamping: TimeStamping, model_files: ModelFiles, tmp_path: Path
) -> None:
    own = signer(authorities.signers).stored(tmp_path / "own")
    paths = {"credentials_certificate": str(own.chain), "credentials_key": str(own.key)}
    for served in serve(model_files, tmp_path, credentials_authority=stamping.address, **paths):
        made = served.stub.Generate(request(seed=1))

        anchors = authorities.anchors("signers time").encode()
        told = served.stub.DetectMarks(pb.DetectMarksRequest(audio=made.audio, trust_anchors=anchors)).credentials
        with pytest.raises(grpc.RpcError) as refused:
            served.stub.DetectMarks(pb.DetectMarksRequest(audio=made.audio, trust_anchors=b"no list"))

        assert made.marks.time_stamp == pb.TIME_STAMP_STATE_STAMPED
        assert (told.trust, told.time_authority_trusted) == (pb.CREDENTIALS_TRUST_TRUSTED, True)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "trust_anchors: must be one or more certificates" in (refused.value.details() or "")


def test_a_request_without_the_required_stamp_stores_nothing_and_may_be_asked_again(
    authorities: Authorities, model_files: ModelFiles, tmp_path: Path
) -> None:
    own = signer(authorities.signers).stored(tmp_path / "own")
    paths = {"credentials_certificate": str(own.chain), "credentials_key": str(own.key)}
    with time_stamping(authorities.time, tmp_path / "authority", Answers.GARBAGE) as wrong:
        more = {"credentials_authority": wrong.address, "credentials_time_stamp": "required"}
        for served in serve(model_files, tmp_path, **paths, **more):
            with pytest.raises(grpc.RpcError) as refused:
                served.stub.Generate(request(seed=1))

            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert not list(served.store.objects.keys("generated/"))
            assert served.stub.Generate(request(seed=1, output_format=pb.OUTPUT_FORMAT_OGG_VORBIS)).audio.key


def test_a_required_stamp_names_the_audio(authorities: Authorities, tmp_path: Path) -> None:
    own = signer(authorities.signers).stored(tmp_path)
    with signing(own, TimeAuthority("http://127.0.0.1:9/")) as wanted, signing(own) as none:
        assert wanted.named("audio/flac") == none.named("audio/flac") == {"credentials": "signed"}
    with signing(own, TimeAuthority("http://127.0.0.1:9/", required=True)) as required:
        assert required.named("audio/flac") == {"credentials": "signed", "time_stamp": "required"}
        assert required.named("audio/ogg") == {}


def test_a_required_stamp_without_an_authority_is_named_at_the_start(tmp_path: Path) -> None:
    [fault] = settings_for(tmp_path, credentials_time_stamp="required").faults()

    assert "needs LUTHIER_CREDENTIALS_AUTHORITY" in fault


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "must be one or more certificates"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "must be one or more certificates"),
        (b"x" * ((1 << 20) + 1), "at most 1048576 bytes"),
    ],
)
def test_what_is_no_list_is_named_with_its_bound(tmp_path: Path, data: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        anchors_of(data)
    (tmp_path / "list.pem").write_bytes(data)
    with pytest.raises(SettingsError, match=told):
        operators_anchors(str(tmp_path / "list.pem"))


def test_a_list_with_one_damaged_certificate_is_refused(authorities: Authorities) -> None:
    """As a whole: the library skips it, and trusts fewer than the list's author thinks."""
    whole = authorities.anchors("signers other").encode()

    with pytest.raises(ValueError, match="each whole"):
        anchors_of(whole.replace(b"MII", b"MIJ", 1))
    assert anchors_of(b"# Acme\n" + whole).count("BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize("fault", ["signingCredential.invalid", "signingCredential.ocsp.revoked"])
def test_a_signer_that_may_not_sign_is_unfit_and_the_file_is_not_called_changed(fault: str) -> None:
    told = (
        '{"active_manifest": "a", "manifests": {"a": {}}, "validation_state": "Invalid", "validation_status": '
        f'[{{"code": "{fault}"}}], "validation_results": {{"activeManifest": {{"success": '
        '[{"code": "claimSignature.validated"}, {"code": "assertion.dataHash.match"}]}}}'
    )

    read = found_in(told, listed=True)

    assert (read.finding, read.trust) == (pb.CREDENTIALS_FINDING_INTACT, pb.CREDENTIALS_TRUST_UNFIT)
    assert list(read.faults) == [fault]


@pytest.mark.parametrize(("valid_s", "uses", "told"), [
    (-60, (DOCUMENT_SIGNING,), "is valid from"), (3600, (SERVER,), "must be for claim signing"),
    (3600, (), "must be for claim signing"),
])  # fmt: skip
def test_a_certificate_that_could_sign_nothing_is_named_at_the_start(
    authorities: Authorities, tmp_path: Path, valid_s: float, uses: tuple[x509.ObjectIdentifier, ...], told: str
) -> None:
    own = authorities.signers.issue("Acme Music", uses, valid_s=valid_s).stored(tmp_path)

    with pytest.raises(SettingsError, match=told):
        operators(own.chain, own.key)


def test_a_certificate_that_expires_soon_is_told_at_the_start(
    authorities: Authorities, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = signer(authorities.signers).stored(tmp_path)

    assert operators(own.chain, own.key).issuer == "Acme Music"

    assert "expires on" in caplog.text


def test_when_the_certificate_expires_is_known_after_a_renewal_too(authorities: Authorities, tmp_path: Path) -> None:
    first, renewed = signer(authorities.signers, valid_s=3000), signer(authorities.signers, valid_s=9000)
    with signing(first.stored(tmp_path / "own")) as own:
        before = metrics.CERTIFICATE_EXPIRES._value.get()
        renewed.stored(tmp_path / "own")
        signed(own, tmp_path / "song")

    assert before == first.certificate.not_valid_after_utc.timestamp()
    assert metrics.CERTIFICATE_EXPIRES._value.get() == renewed.certificate.not_valid_after_utc.timestamp()

"""All that is missing or wrong is named at once, by variable and path; secrets stay out of sight."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from luthier_kit.rpc import ServiceSettings, SettingsError, load, setting
from luthier_kit.store import StoreSettings


@dataclass(frozen=True)
class Settings(ServiceSettings, StoreSettings):
    device: str = setting("DEVICE", choices=("cuda", "cpu"), help="cuda or cpu")
    token: str = setting("TOKEN", default="", secret=True)
    fonts: Path = setting("FONTS", default=Path("/usr/share/sounds"), path="folder")
    low: int = setting("LOW", default=1)
    high: int = setting("HIGH", default=2)

    def faults(self) -> list[str]:
        own = [] if self.low <= self.high else ["LOW must be at most HIGH"]
        return [*super().faults(), *own]


def fault(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(Settings, environ)
    return str(caught.value).splitlines()


def test_defaults_and_values_from_the_environment() -> None:
    settings = load(Settings, {"DEVICE": "cpu", "LUTHIER_SLOTS": "3", "LUTHIER_BUCKETS_ALLOWED": "a, b"})
    assert (settings.device, settings.slots, settings.buckets_allowed) == ("cpu", 3, ("a", "b"))
    assert settings.store_folder == Path(".luthier/store")


def test_every_fault_is_named_at_once() -> None:
    found = fault(LUTHIER_SLOTS="0", LUTHIER_STORE="floppy", LUTHIER_GRACE_S="soon", LUTHIER_S3_SECURE="maybe")
    assert found == [
        "LUTHIER_STORE must be one of folder, s3, got 'floppy'",
        "LUTHIER_S3_SECURE must be 1 or 0, got 'maybe'",
        "LUTHIER_SLOTS must be between 1 and 256, got 0",
        "LUTHIER_GRACE_S must be a number, got 'soon'",
        "DEVICE is missing: cuda or cpu",
    ]


def test_what_is_wrong_between_values_is_named_once_and_beside_what_is_wrong_with_others() -> None:
    assert fault(LUTHIER_STORE="s3", LUTHIER_S3_ACCESS_KEY="someone", DEVICE="cpu", LOW="3") == [
        "LUTHIER_S3_SECRET_KEY is missing: LUTHIER_STORE=s3 needs it",
        "LOW must be at most HIGH",
    ]
    assert fault(LUTHIER_STORE="s3", LUTHIER_S3_ACCESS_KEY="someone", LUTHIER_SLOTS="0") == [
        "LUTHIER_SLOTS must be between 1 and 256, got 0",
        "DEVICE is missing: cuda or cpu",
        "LUTHIER_S3_SECRET_KEY is missing: LUTHIER_STORE=s3 needs it",
    ]


def test_a_file_or_folder_that_is_not_there_is_named_by_variable_and_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert fault(DEVICE="cpu", LUTHIER_TLS_CERT="/nope/tls.crt", LUTHIER_CALLERS="/nope", FONTS=f"{tmp_path}/file") == [
        "LUTHIER_TLS_CERT names the file /nope/tls.crt, which cannot be read: No such file or directory",
        "LUTHIER_CALLERS names the folder /nope, which cannot be read: No such file or directory",
        f"FONTS names the folder {tmp_path}/file, which cannot be read: Not a directory",
    ]
    assert load(Settings, {"DEVICE": "cpu", "FONTS": str(tmp_path)}).fonts == tmp_path


def test_a_secret_may_come_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hush\n")
    settings = load(Settings, {"DEVICE": "cpu", "TOKEN_FILE": str(tmp_path / "token")})
    assert settings.token == "hush"
    assert "hush" not in repr(settings)


def test_a_secret_s_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert fault(DEVICE="cpu", TOKEN_FILE="/nope/token") == [
        "TOKEN cannot be read from TOKEN_FILE=/nope/token: No such file or directory"
    ]
    assert fault(DEVICE="cpu", TOKEN_FILE=f"{tmp_path}/binary") == [
        f"TOKEN cannot be read from TOKEN_FILE={tmp_path}/binary: it is not text"
    ]

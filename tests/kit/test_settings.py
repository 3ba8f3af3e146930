"""All that is missing or wrong is named at once; secrets stay out of sight."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from luthier_kit.rpc import ServiceSettings, SettingsError, load, setting


@dataclass(frozen=True)
class Settings(ServiceSettings):
    device: str = setting("DEVICE", choices=("cuda", "cpu"), help="cuda or cpu")
    token: str = setting("TOKEN", default="", secret=True)


def test_defaults_and_values_from_the_environment():
    settings = load(Settings, {"DEVICE": "cpu", "LUTHIER_SLOTS": "3", "LUTHIER_BUCKETS_ALLOWED": "a, b"})
    assert (settings.device, settings.slots, settings.buckets_allowed) == ("cpu", 3, ("a", "b"))
    assert settings.store_folder == Path(".luthier/store")


def test_every_fault_is_named_at_once():
    with pytest.raises(SettingsError) as caught:
        load(Settings, {"LUTHIER_SLOTS": "0", "LUTHIER_STORE": "floppy", "LUTHIER_GRACE_S": "soon"})
    for name in (
        "DEVICE is missing",
        "LUTHIER_SLOTS must be",
        "LUTHIER_STORE must be",
        "LUTHIER_GRACE_S must be",
    ):
        assert name in str(caught.value)


def test_a_secret_may_come_from_a_file_and_is_never_shown(tmp_path):
    (tmp_path / "token").write_text("hush\n")
    settings = load(Settings, {"DEVICE": "cpu", "TOKEN_FILE": str(tmp_path / "token")})
    assert settings.token == "hush"
    assert "hush" not in repr(settings)

"""Which artifact store the services use: a folder (the embedded default), or a MinIO server of this installation.

MinIO's credentials are random, made once, and kept in files that only their owner can read. The programs get the paths
of these files; the secret itself is in no configuration, on no command line and in no log.
"""

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from luthier_kit.rpc import LuthierError, load
from luthier_kit.store import StoreSettings, open_store
from luthier_local.home import Home

BUCKET = "luthier"
ACCESS_KEY_BYTES = 10
SECRET_KEY_BYTES = 20
KINDS = ("folder", "minio")
EXPECTED = "LUTHIER_STORE_EXPECTED"
"""Set once the store was proven: from then on nobody begins an empty one in its place."""


def settings(home: Home, minio_address: str = "") -> dict[str, str]:
    """The settings with which a service, or the command `luthier`, opens the store; without MinIO it is a folder."""
    if not minio_address:
        return {"LUTHIER_STORE": "folder", "LUTHIER_STORE_FOLDER": str(home.store), "LUTHIER_BUCKET": BUCKET}
    return {
        "LUTHIER_STORE": "s3",
        "LUTHIER_BUCKET": BUCKET,
        "LUTHIER_S3_ENDPOINT": minio_address,
        "LUTHIER_S3_SECURE": "false",
        "LUTHIER_S3_ACCESS_KEY_FILE": str(home.minio / "access-key"),
        "LUTHIER_S3_SECRET_KEY_FILE": str(home.minio / "secret-key"),
    }


def prove(home: Home, settings: Mapping[str, str]) -> None:
    """Prove and mark the store, and write its settings for the command `luthier`. A store that an earlier `up` proved
    must be there. Raises SystemExit."""
    known = home.store_settings()
    expected = known.get(EXPECTED, "") if known.get("LUTHIER_STORE") == settings["LUTHIER_STORE"] else ""
    try:
        open_store(load(StoreSettings, {**settings, EXPECTED: expected or "0"}))
    except LuthierError as error:
        raise SystemExit(f"{error}\nTo begin with an empty store, remove {home.store_file}") from None
    home.write_store_settings({**settings, EXPECTED: "1"})


def prepare_minio(home: Home) -> dict[str, str]:
    """Make the credentials and the bucket where they are missing; returns the environment of the server."""
    _make_secret(home.minio / "access-key", ACCESS_KEY_BYTES)
    _make_secret(home.minio / "secret-key", SECRET_KEY_BYTES)
    (home.minio / "data" / BUCKET).mkdir(parents=True, exist_ok=True)  # a folder of the drive is a bucket
    return {
        "MINIO_ROOT_USER_FILE": str(home.minio / "access-key"),
        "MINIO_ROOT_PASSWORD_FILE": str(home.minio / "secret-key"),
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
    }


def minio_binary(root: Path, environ: Mapping[str, str]) -> Path:
    """$LUTHIER_MINIO, else `minio` on the PATH, else the one that make put into .tools/bin. Raises SystemExit."""
    named = environ.get("LUTHIER_MINIO")
    found = named or shutil.which("minio", path=environ.get("PATH")) or str(root / ".tools" / "bin" / "minio")
    if not os.access(found, os.X_OK):
        raise SystemExit(f"STORE=minio: no MinIO server at {found}; name it in LUTHIER_MINIO or install it")
    return Path(found)


def _make_secret(path: Path, size_bytes: int) -> None:
    """A random secret in `path`, readable by its owner only, unless there is one already."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(size_bytes))

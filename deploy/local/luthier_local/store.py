"""Which artifact store the services use: a folder (the embedded default), or a MinIO server of this installation.

MinIO's credentials are random, made once, and kept in files that only their owner can read. Each service has its own
key, which opens what the service needs (deploy/store). The programs get the paths of these files; the secret itself is
in no configuration, on no command line and in no log.
"""

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from minio import MinioAdmin
from minio.credentials.providers import StaticProvider

from luthier_kit.rpc import LuthierError, load
from luthier_kit.store import StoreSettings, open_store
from luthier_local.home import Home

BUCKET = "luthier"
ACCESS_KEY_BYTES = 10
SECRET_KEY_BYTES = 20
KINDS = ("folder", "minio")
OPERATOR = "monitor"
"""Whose policy the command `luthier` has here."""
POLICIES = {
    **{name: (name,) for name in ("rendering", "analysis", "enrichment", "prompting", "curation", "inference")},
    "training": ("training", "training-run"),  # the service starts the runs itself
    "evaluation": ("evaluation",),
    OPERATOR: (OPERATOR,),
}
"""Policies of deploy/store by who has them."""
DOCUMENTS = Path(__file__).parents[2] / "store" / "policies"
EXPECTED = "LUTHIER_STORE_EXPECTED"
"""Set once the store was proven: from then on nobody begins an empty one in its place."""


def settings(home: Home, minio_address: str = "", component: str = OPERATOR) -> dict[str, str]:
    """The settings with which a service, or the command `luthier`, opens the store; without MinIO it is a folder."""
    if not minio_address:
        return {"LUTHIER_STORE": "folder", "LUTHIER_STORE_FOLDER": str(home.store), "LUTHIER_BUCKET": BUCKET}
    return _at(minio_address, home.minio / "keys" / component)


def prove(home: Home, minio_address: str = "") -> None:
    """Prove and mark the store, give each service its key of MinIO, and write the settings for the command `luthier`.
    A store that an earlier `up` proved must be there. Raises SystemExit."""
    own, known = settings(home, minio_address), home.store_settings()
    expected = known.get(EXPECTED, "") if known.get("LUTHIER_STORE") == own["LUTHIER_STORE"] else ""
    try:
        proving = _at(minio_address, home.minio) if minio_address else own
        open_store(load(StoreSettings, {**proving, EXPECTED: expected or "0"}))
    except LuthierError as error:
        raise SystemExit(f"{error}\nTo begin with an empty store, remove {home.store_file}") from None
    if minio_address:
        _give_keys(home, minio_address)
    home.write_store_settings({**own, EXPECTED: "1"})


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


def _give_keys(home: Home, minio_address: str) -> None:
    """Each service gets a user of MinIO with its own policy (deploy/store), the command `luthier` that of operators."""
    provider = StaticProvider((home.minio / "access-key").read_text(), (home.minio / "secret-key").read_text())
    admin = MinioAdmin(endpoint=minio_address, credentials=provider, secure=False)
    for component, policies in POLICIES.items():
        folder = home.minio / "keys" / component
        _make_secret(folder / "access-key", ACCESS_KEY_BYTES)
        _make_secret(folder / "secret-key", SECRET_KEY_BYTES)
        user = (folder / "access-key").read_text()
        for policy in policies:
            document = (DOCUMENTS / f"{policy}.json").read_text().replace(":::BUCKET", f":::{BUCKET}")
            admin.policy_add(policy, policy=json.loads(document))
        admin.user_add(user, (folder / "secret-key").read_text())
        admin.policy_set(",".join(policies), user=user)


def _at(minio_address: str, keys: Path) -> dict[str, str]:
    """The settings of MinIO with the keys in this folder."""
    return {
        "LUTHIER_STORE": "s3",
        "LUTHIER_BUCKET": BUCKET,
        "LUTHIER_S3_ENDPOINT": minio_address,
        "LUTHIER_S3_SECURE": "false",
        "LUTHIER_S3_ACCESS_KEY_FILE": str(keys / "access-key"),
        "LUTHIER_S3_SECRET_KEY_FILE": str(keys / "secret-key"),
    }


def _make_secret(path: Path, size_bytes: int) -> None:
    """A random secret in `path`, readable by its owner only, unless there is one already."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(size_bytes))

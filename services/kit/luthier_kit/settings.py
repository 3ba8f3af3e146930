"""Settings: one frozen dataclass read from the environment at start; all that is missing or wrong is named at once."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class SettingsError(Exception):
    """One line for each setting that is missing or wrong."""


def setting(
    env: str,
    *,
    default: Any = MISSING,
    help: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """A dataclass field read from the variable `env`.

    Without a default it is required. `low`, `high` bound numbers; `choices` bounds texts. A `secret` is left out of
    `repr` and may come from a file named by `<env>_FILE`.
    """
    metadata = {"env": env, "help": help, "low": low, "high": high, "choices": choices, "secret": secret}
    return field(default=default, metadata=metadata, repr=not secret, kw_only=True)


def load(kind: type[T], environ: Mapping[str, str] = os.environ) -> T:
    """Reads `kind` from the environment. Raises SettingsError naming every fault."""
    values, faults = {}, []
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]
        try:
            text = _text(item, environ)
            if text is not None:
                values[item.name] = _parse(item, text)
            elif item.default is MISSING:
                faults.append(f"{item.metadata['env']} is missing: {item.metadata['help']}")
        except (ValueError, OSError) as error:
            faults.append(f"{item.metadata['env']} {error}")
    if faults:
        raise SettingsError("\n".join(faults))
    return kind(**values)


def _text(item: dataclasses.Field, environ: Mapping[str, str]) -> str | None:
    env = item.metadata["env"]
    if item.metadata["secret"] and (path := environ.get(f"{env}_FILE")):
        return Path(path).read_text().strip()
    return environ.get(env) or None


def _parse(item: dataclasses.Field, text: str) -> Any:
    kind: Any = item.type
    low, high = item.metadata["low"], item.metadata["high"]
    if kind is bool:
        if text.lower() not in ("0", "1", "true", "false", "yes", "no"):
            raise ValueError(f"must be 1 or 0, got {text!r}")
        return text.lower() in ("1", "true", "yes")
    if kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            raise ValueError(f"must be a number, got {text!r}") from None
        if not ((low is None or value >= low) and (high is None or value <= high)):
            raise ValueError(f"must be between {low} and {high}, got {text}")
        return value
    if item.metadata["choices"] and text not in item.metadata["choices"]:
        raise ValueError(f"must be one of {', '.join(item.metadata['choices'])}, got {text!r}")
    if kind == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return Path(text) if kind is Path else text


@dataclass(frozen=True)
class StoreSettings:
    """Where artifacts live."""

    store: str = setting("LUTHIER_STORE", default="folder", choices=("folder", "s3"), help="folder or s3")
    store_folder: Path = setting("LUTHIER_STORE_FOLDER", default=Path(".luthier/store"), help="folder of the store")
    s3_endpoint: str = setting("LUTHIER_S3_ENDPOINT", default="127.0.0.1:9000", help="host:port")
    s3_access_key: str = setting("LUTHIER_S3_ACCESS_KEY", default="", secret=True)
    s3_secret_key: str = setting("LUTHIER_S3_SECRET_KEY", default="", secret=True)
    s3_region: str = setting("LUTHIER_S3_REGION", default="us-east-1")
    s3_secure: bool = setting("LUTHIER_S3_SECURE", default=False, help="1 = TLS")
    bucket: str = setting("LUTHIER_BUCKET", default="luthier", help="the service's own bucket")
    buckets_allowed: tuple[str, ...] = setting(
        "LUTHIER_BUCKETS_ALLOWED", default=(), help="further buckets that requests may name, comma-separated"
    )
    create_bucket: bool = setting("LUTHIER_CREATE_BUCKET", default=False, help="1 = create a missing bucket")


@dataclass(frozen=True)
class ServiceSettings(StoreSettings):
    """What every service understands."""

    address: str = setting("LUTHIER_ADDRESS", default="", help="host:port; empty = loopback and the usual port")
    metrics_address: str = setting("LUTHIER_METRICS_ADDRESS", default="", help="host:port of /metrics")
    health_address: str = setting(
        "LUTHIER_HEALTH_ADDRESS", default="", help="host:port of plaintext health checks only; empty = none"
    )
    tls_cert: str = setting("LUTHIER_TLS_CERT", default="", help="path of the server's certificate, with the key: TLS")
    tls_key: str = setting("LUTHIER_TLS_KEY", default="", help="path of its key")
    tls_client_ca: str = setting(
        "LUTHIER_TLS_CLIENT_CA", default="", help="path of the authority whose certificates callers must show"
    )
    callers: str = setting("LUTHIER_CALLERS", default="", help="folder with a file of token digests for each caller")
    callers_allowed: tuple[str, ...] = setting(
        "LUTHIER_CALLERS_ALLOWED", default=(), help="callers that may call, comma-separated; empty = all known"
    )
    caller_in_flight: int = setting(
        "LUTHIER_CALLER_IN_FLIGHT", default=0, low=0, high=100_000, help="calls of work one caller may have; 0 = any"
    )
    connection_age_s: float = setting(
        "LUTHIER_CONNECTION_AGE_S", default=600.0, low=1, high=86400, help="connections older than this are renewed"
    )
    slots: int = setting("LUTHIER_SLOTS", default=2, low=1, high=256, help="calls of work at a time; as many wait")
    grace_s: float = setting("LUTHIER_GRACE_S", default=30.0, low=0, high=86400, help="time to finish calls at stop")
    drain_s: float = setting("LUTHIER_DRAIN_S", default=0.0, low=0, high=600, help="NOT_SERVING before the stop")
    log_level: str = setting("LUTHIER_LOG_LEVEL", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    scratch: Path = setting("LUTHIER_SCRATCH", default=Path("/tmp"), help="folder for temporary files")  # noqa: S108

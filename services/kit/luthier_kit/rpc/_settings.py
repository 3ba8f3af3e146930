"""Settings: one frozen dataclass read from the environment at start; all that is missing or wrong is named at once."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

T = TypeVar("T", bound="Settings")


class SettingsError(Exception):
    """One line for each setting that is missing or wrong."""


@dataclass(frozen=True)
class Settings:
    """Base of all settings."""

    def faults(self) -> list[str]:
        """What is wrong with values that are fine one by one; a subclass adds its own to `super().faults()`."""
        return []


def setting(
    env: str,
    *,
    default: Any = MISSING,
    help: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
    path: Literal["", "file", "folder"] = "",
) -> Any:
    """A dataclass field read from the variable `env`.

    Without a default it is required. `low`, `high` bound numbers; `choices` bounds texts, and each of several. A
    `secret` is left out of `repr` and may come from a file named by `<env>_FILE`. With `path` the value names a file or
    folder that must be there and readable.
    """
    metadata = {
        "env": env, "help": help, "low": low, "high": high, "choices": choices, "secret": secret, "path": path,
    }  # fmt: skip
    return field(default=default, metadata=metadata, repr=not secret, kw_only=True)


def load(kind: type[T], environ: Mapping[str, str] = os.environ) -> T:
    """Reads `kind` from the environment. Raises SettingsError naming every fault."""
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for item in dataclasses.fields(kind):
        env = item.metadata["env"]
        try:
            text = _text(item, environ)
            if text is not None:
                values[item.name] = _parse(item, text)
            elif item.default is MISSING:
                wrong[item.name] = f"{env} is missing: {item.metadata['help']}"
        except ValueError as error:
            wrong[item.name] = f"{env} {error}"
    faults = list(wrong.values())
    for part in (part for part in kind.__mro__ if issubclass(part, Settings)):
        own = {item.name for item in dataclasses.fields(part)}
        if not own & wrong.keys():  # else its values cannot be held against each other
            faults += part(**{name: value for name, value in values.items() if name in own}).faults()
    if faults:
        raise SettingsError("\n".join(dict.fromkeys(faults)))
    return kind(**values)


def _text(item: "dataclasses.Field[Any]", environ: Mapping[str, str]) -> str | None:
    env = item.metadata["env"]
    if item.metadata["secret"] and (path := environ.get(f"{env}_FILE")):
        try:
            return Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot be read from {env}_FILE={path}: {_why(error)}") from None
    return environ.get(env) or None


def _check_path(text: str, kind: str) -> None:
    """ValueError when there is no such file or folder, or this process may not read it."""
    try:
        if kind == "folder":
            os.scandir(text).close()
        else:
            Path(text).open("rb").close()
    except OSError as error:
        raise ValueError(f"names the {kind} {text}, which cannot be read: {_why(error)}") from None


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is not text"


def _parse(item: "dataclasses.Field[Any]", text: str) -> Any:
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
    parts = tuple(part.strip() for part in text.split(",") if part.strip()) if kind == tuple[str, ...] else (text,)
    for part in parts:
        if item.metadata["choices"] and part not in item.metadata["choices"]:
            raise ValueError(f"must be one of {', '.join(item.metadata['choices'])}, got {part!r}")
    if item.metadata["path"]:
        _check_path(text, item.metadata["path"])
    if kind == tuple[str, ...]:
        return parts
    return Path(text) if kind is Path else text


@dataclass(frozen=True)
class ServiceSettings(Settings):
    """What every service understands."""

    address: str = setting("LUTHIER_ADDRESS", default="", help="host:port; empty = loopback and the usual port")
    metrics_address: str = setting("LUTHIER_METRICS_ADDRESS", default="", help="host:port of /metrics")
    health_address: str = setting(
        "LUTHIER_HEALTH_ADDRESS", default="", help="host:port of plaintext health checks only; empty = none"
    )
    tls_cert: str = setting(
        "LUTHIER_TLS_CERT", default="", path="file", help="path of the server's certificate, with the key: TLS"
    )
    tls_key: str = setting("LUTHIER_TLS_KEY", default="", path="file", help="path of its key")
    tls_client_ca: str = setting(
        "LUTHIER_TLS_CLIENT_CA", default="", path="file",
        help="path of the authority whose certificates callers must show",
    )  # fmt: skip
    callers: str = setting(
        "LUTHIER_CALLERS", default="", path="folder", help="folder with a file of token digests for each caller"
    )
    callers_allowed: tuple[str, ...] = setting(
        "LUTHIER_CALLERS_ALLOWED", default=(), help="callers that may call, comma-separated; empty = all known"
    )
    caller_permissions: tuple[str, ...] = setting(
        "LUTHIER_CALLER_PERMISSIONS", default=(),
        help="name=permission+permission, comma-separated; * = callers not named here (read+generate)",
    )  # fmt: skip
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


@dataclass(frozen=True)
class ClientSettings(Settings):
    """What every client understands."""

    token: str = setting("LUTHIER_TOKEN", default="", secret=True, help="sent as authorization: Bearer")
    token_file: str = setting("LUTHIER_TOKEN_FILE", default="", help="path of the token, read again when changed")
    tls_ca: str = setting("LUTHIER_TLS_CA", default="", help="TLS: path of the authority to trust, or `system`")
    client_cert: str = setting(
        "LUTHIER_TLS_CLIENT_CERT", default="", path="file", help="path of the client's certificate"
    )
    client_key: str = setting("LUTHIER_TLS_CLIENT_KEY", default="", path="file", help="path of its key")

"""Which model versions this server answers for, and what their configurations say."""

import threading
from dataclasses import dataclass

from luthier_inference.order import Bounds
from luthier_kit import models
from luthier_kit.artifacts import Artifacts
from luthier_kit.errors import DataLoss, InvalidRequest, NotFound
from luthier_kit.models import ModelVersion
from luthier_model import configuration
from luthier_model.configuration import MAX_DOCUMENT_BYTES, Configuration
from luthier_model.errors import ConfigurationError

MAX_SPEC_CHARS = 128
KNOWN_CONFIGURATIONS = 256


@dataclass(frozen=True)
class Profile:
    """A version with its configuration, read but not loaded."""

    version: ModelVersion
    configuration: Configuration

    @property
    def bounds(self) -> Bounds:
        c = self.configuration
        return Bounds(window_s=min(c.window_s, c.seconds_max), start_s=c.seconds_max)


class Catalogue:
    """Resolves `name`, `name@n` and `sha256:…`.

    `served` limits the names (empty = all that are registered). A name that `switch` has set stays with that version
    until the next `switch`, whatever is registered meanwhile: callers get a newer version when it is loaded.
    """

    def __init__(self, store: Artifacts, served: tuple[str, ...] = (), default: str = "") -> None:
        self.store, self.served = store, served
        self.default = default or (served[0] if served else "")
        self._current: dict[str, ModelVersion] = {}
        self._configurations: dict[str, Configuration] = {}
        self._lock = threading.Lock()

    def resolve(self, spec: str) -> Profile:
        """NotFound names what is served; DataLoss when the registered configuration is unusable."""
        if len(spec) > MAX_SPEC_CHARS:
            bound = f"must have at most {MAX_SPEC_CHARS} characters, got {len(spec)}"
            raise InvalidRequest(violations=[("model", bound)])
        spec = spec or self._default()
        version = self._current.get(spec) or models.resolve(self.store, spec)
        if self.served and version.name not in self.served:
            text = f"model {spec!r} is not served here; served: {', '.join(self.served)}"
            raise NotFound(text, reason="MODEL_NOT_FOUND")
        return self.profile(version)

    def profile(self, version: ModelVersion) -> Profile:
        """The version with its configuration."""
        sha256 = version.configuration.sha256
        known = self._configurations.get(sha256)
        if known is None:
            data = self.store.read(version.configuration, max_bytes=MAX_DOCUMENT_BYTES)
            try:
                known = configuration.read(data)
            except ConfigurationError as error:
                raise DataLoss(f"model {version.label}: {error}", reason="CONFIGURATION_INVALID") from None
            with self._lock:
                if len(self._configurations) >= KNOWN_CONFIGURATIONS:
                    self._configurations.clear()
                self._configurations[sha256] = known
        return Profile(version, known)

    def names(self) -> list[str]:
        """The names that may be asked for: registered, and served here."""
        return [name for name in models.names(self.store) if not self.served or name in self.served]

    def current(self, name: str) -> ModelVersion | None:
        """The version that a served name stands for now, None before its first `switch`."""
        return self._current.get(name)

    def switch(self, name: str, version: ModelVersion) -> None:
        """From now on `name` means `version`."""
        self._current[name] = version

    def default_name(self) -> str:
        """The name that an empty one stands for; empty when it must be given."""
        if self.default:
            return self.default
        names = self.names()
        return names[0] if len(names) == 1 else ""

    def _default(self) -> str:
        if name := self.default_name():
            return name
        names = self.names()
        if not names:
            raise NotFound("no model is registered: register one with RegisterModel", reason="MODEL_NOT_FOUND")
        raise InvalidRequest(violations=[("model", f"must be named: one of {', '.join(names[:20])}")])

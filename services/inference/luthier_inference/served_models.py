"""Which model versions this server answers for, and what their configurations say."""

import threading
from dataclasses import dataclass
from typing import Final

from luthier_kit.registry import ModelVersion, model_names, resolve
from luthier_kit.rpc import InvalidRequest, NotFound
from luthier_kit.store import Store
from luthier_model.configuration import Configuration
from luthier_model.registered import fetch_configuration, statuses

MAX_MODEL_CHARS: Final = 128
CONFIGURATIONS_KEPT: Final = 256


@dataclass(frozen=True)
class ServedVersion:
    """A registered version with its configuration, read but not loaded."""

    version: ModelVersion
    configuration: Configuration

    @property
    def window_s(self) -> float:
        """The longest audio in seconds."""
        return min(self.configuration.window_s, self.configuration.seconds_max)


class ServedModels:
    """Resolves `name`, `name@n` and `sha256:…`.

    `names` limits what is served (empty = all that are registered). A name that `switch` has set stays with that
    version until the next `switch`, whatever is registered meanwhile: callers get a newer version when it is loaded.
    """

    def __init__(self, store: Store, names: tuple[str, ...] = (), default: str = "") -> None:
        self.store, self.names = store, names
        self._default = default or (names[0] if names else "")
        self._current: dict[str, ModelVersion] = {}
        self._configurations: dict[str, Configuration] = {}
        self._lock = threading.Lock()

    def resolve(self, model: str) -> ServedVersion:
        """NotFound names what is served; DataLoss when the registered configuration is unusable."""
        if len(model) > MAX_MODEL_CHARS:
            bound = f"must have at most {MAX_MODEL_CHARS} characters, got {len(model)}"
            raise InvalidRequest(violations=[("model", bound)])
        if not model and not (model := self.default_name()):
            if registered := self.registered():
                raise InvalidRequest(violations=[("model", f"must be named: one of {', '.join(registered[:20])}")])
            raise NotFound("no model is registered: register one with RegisterModel", reason="MODEL_NOT_FOUND")
        version = self._current.get(model) or resolve(self.store, model)
        if self.names and version.name not in self.names:
            text = f"model {model!r} is not served here; served: {', '.join(self.names)}"
            raise NotFound(text, reason="MODEL_NOT_FOUND")
        return self.configured(version)

    def configured(self, version: ModelVersion) -> ServedVersion:
        """The version with its configuration, which is read once."""
        sha256 = version.configuration.sha256
        known = self._configurations.get(sha256)
        if known is None:
            with statuses(version):
                known = fetch_configuration(self.store, version.configuration)
            with self._lock:
                if len(self._configurations) >= CONFIGURATIONS_KEPT:
                    self._configurations.clear()
                self._configurations[sha256] = known
        return ServedVersion(version, known)

    def registered(self) -> list[str]:
        """The names that may be asked for: registered, and served here."""
        return [name for name in model_names(self.store) if not self.names or name in self.names]

    def default_name(self) -> str:
        """The name that an empty one stands for; empty when it must be given."""
        if self._default:
            return self._default
        names = self.registered()
        return names[0] if len(names) == 1 else ""

    def current(self, name: str) -> ModelVersion | None:
        """The version that a served name stands for now, None before its first `switch`."""
        return self._current.get(name)

    def switch(self, name: str, version: ModelVersion) -> None:
        """From now on `name` means `version`."""
        self._current[name] = version

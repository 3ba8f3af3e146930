"""Which model versions this server answers for, and what their configurations say."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.registry import ModelVersion, model_names, resolve
from luthier_kit.rpc import FailedPrecondition, InvalidRequest, NotFound
from luthier_kit.store import Store
from luthier_model.adapter_mix import MAX_SHARE
from luthier_model.configuration import Configuration
from luthier_model.registered import fetch_configuration, statuses

MAX_MODEL_CHARS: Final = 512
MAX_ADAPTERS: Final = 4
CONFIGURATIONS_KEPT: Final = 256


@dataclass(frozen=True)
class AdapterShare:
    """The adapter that a version has over another one, and how much of its difference counts: 1 = as it was trained."""

    version: ModelVersion
    share: float = 1.0

    @property
    def artifact(self) -> ArtifactRef:
        """Its file."""
        return self.version.adapters[-1].artifact

    @property
    def label(self) -> str:
        """As it is asked for, `name@n:share`."""
        return f"{self.version.label}:{self.share:g}"


@dataclass(frozen=True)
class ServedVersion:
    """A registered version with its configuration, read but not loaded, and adapters that are applied to it.

    `precision`: that of its transformer, where a request asks for another one than the server's.
    """

    version: ModelVersion
    configuration: Configuration
    adapters: tuple[AdapterShare, ...] = ()
    precision: str = ""

    @property
    def key(self) -> str:
        """What is loaded for it, by its digest."""
        return f"{self.version.digest}/{self.precision}" if self.precision else self.version.digest

    @property
    def label(self) -> str:
        """As it is asked for, `name@n` and each adapter behind a `+`."""
        return "+".join([self.version.label, *(adapter.label for adapter in self.adapters)])

    @property
    def window_s(self) -> float:
        """The longest audio in seconds."""
        return min(self.configuration.window_s, self.configuration.seconds_max)


class ServedModels:
    """Resolves `name`, `name@n` and `sha256:…`, and adapters behind them: `name+jazz@2:0.8`.

    `names` limits what is served (empty = all that are registered); adapters go over any of these. A name that
    `switch` has set stays with that version until the next `switch`, whatever is registered meanwhile: callers get a
    newer version when it is loaded. `precisions`: those of this server's device, first the one of requests that name
    none.
    """

    def __init__(
        self, store: Store, names: tuple[str, ...] = (), default: str = "", precisions: Sequence[str] = ("float32",)
    ) -> None:
        self.store, self.names, self.precisions = store, names, precisions
        self._default = default or (names[0] if names else "")
        self._current: dict[str, ModelVersion] = {}
        self._configurations: dict[str, Configuration] = {}
        self._lock = threading.Lock()

    def resolve(self, model: str) -> ServedVersion:
        """NotFound names what is served; DataLoss when the registered configuration is unusable."""
        if len(model) > MAX_MODEL_CHARS:
            bound = f"must have at most {MAX_MODEL_CHARS} characters, got {len(model)}"
            raise InvalidRequest(violations=[("model", bound)])
        model, *adapters = model.split("+")
        asked = _shares_of(adapters)
        if not model and not (model := self.default_name()):
            if registered := self.registered():
                raise InvalidRequest(violations=[("model", f"must be named: one of {', '.join(registered[:20])}")])
            raise NotFound("no model is registered: register one with RegisterModel", reason="MODEL_NOT_FOUND")
        version = self._current.get(model) or resolve(self.store, model)
        if self.names and version.name not in self.names:
            text = f"model {model!r} is not served here; served: {', '.join(self.names)}"
            raise NotFound(text, reason="MODEL_NOT_FOUND")
        base = self.configured(version)
        return replace(base, adapters=tuple(self._adapter(base, name, share) for name, share in asked))

    def _adapter(self, base: ServedVersion, name: str, share: float) -> AdapterShare:
        """FailedPrecondition unless the version that is named is just one adapter over this base."""
        version, beneath = resolve(self.store, name), base.version
        trained_on = replace(version, adapters=tuple(version.adapters[:-1]))
        if not version.adapters:
            text = f"{version.label} has no adapter: ask for it as a model"
            raise FailedPrecondition(text, reason="ADAPTER_MISMATCH")
        if base.configuration.has_unet:
            text = f"{beneath.label} has a U-Net, to which adapters are merged only: ask for {version.label}"
            raise FailedPrecondition(text, reason="ADAPTER_MISMATCH")
        if trained_on.digest != beneath.digest:
            text = f"the adapter of {version.label} was trained on {self._label_of(trained_on)}, not on {beneath.label}"
            raise FailedPrecondition(text, reason="ADAPTER_MISMATCH")
        return AdapterShare(version, share)

    def _label_of(self, version: ModelVersion) -> str:
        """Of a version that is known by its digest."""
        digest = f"sha256:{version.digest}"
        try:
            return resolve(self.store, digest).label
        except NotFound:
            return digest

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


def _shares_of(adapters: Sequence[str]) -> list[tuple[str, float]]:
    """Names and shares of `name[@n][:share]`; InvalidRequest says what is wrong with one."""
    found: dict[str, float] = {}
    if len(adapters) > MAX_ADAPTERS:
        bound = f"must name at most {MAX_ADAPTERS} adapters, got {len(adapters)}"
        raise InvalidRequest(violations=[("model", bound)])
    for adapter in adapters:
        name, colon, share = adapter.partition(":")
        try:
            number = float(share) if colon else 1.0
        except ValueError:
            number = math.nan
        if not 0 < abs(number) <= MAX_SHARE:  # NaN is not
            bound = f"must name adapters as name@n:share, the share from -{MAX_SHARE:g} to {MAX_SHARE:g} and not 0"
            raise InvalidRequest(violations=[("model", f"{bound}, got {adapter[:100]!r}")])
        if not name or name in found:
            bound = "must name each adapter once" if name else "must name an adapter behind each +"
            raise InvalidRequest(violations=[("model", bound)])
        found[name] = number
    return list(found.items())

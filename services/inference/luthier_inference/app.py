"""Puts the parts together as the settings say."""

from pathlib import Path

from luthier_inference import devices
from luthier_inference.catalogue import Catalogue
from luthier_inference.loader import Loader
from luthier_inference.registering import Registrar
from luthier_inference.service import InferenceServicer, service
from luthier_inference.settings import InferenceSettings
from luthier_inference.shelf import Shelf
from luthier_inference.studio import Studio
from luthier_inference.watching import Watcher
from luthier_kit.artifacts import Artifacts, open_artifacts
from luthier_kit.server import Service
from luthier_kit.settings import SettingsError


def build(settings: InferenceSettings, store: Artifacts | None = None) -> Service:
    """The service. SettingsError when the settings cannot work on this machine."""
    device = devices.chosen(settings.device, settings.precision)
    if len(settings.models) > settings.models_loaded:
        raise SettingsError(
            f"LUTHIER_MODELS_LOADED must be at least the {len(settings.models)} names of LUTHIER_MODELS, "
            f"got {settings.models_loaded}"
        )
    text = Path(settings.text_encoder) if settings.text_encoder else None
    if text and not text.is_dir():
        raise SettingsError(f"LUTHIER_TEXT_ENCODER must be a folder, there is none at {text}")
    scratch = settings.scratch / "luthier-inference"
    scratch.mkdir(parents=True, exist_ok=True)
    store = store or open_artifacts(settings)
    catalogue = Catalogue(store, settings.models, settings.default_model)
    shelf = Shelf(Loader(store, device, settings.precision, text, scratch), settings.models_loaded)
    servicer = InferenceServicer(
        store,
        catalogue,
        shelf,
        Studio(store, shelf, settings.precision, scratch),
        Registrar(store, text, scratch),
    )
    return service(servicer, Watcher(catalogue, shelf, settings.watch_every_s))

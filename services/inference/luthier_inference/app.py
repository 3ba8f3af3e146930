"""Puts the parts together as the settings say."""

from pathlib import Path

import torch

from luthier_inference.generator import Generator
from luthier_inference.model_cache import Loader, ModelCache, Watcher
from luthier_inference.registration import Registrar
from luthier_inference.served_models import ServedModels
from luthier_inference.service import InferenceServicer, service
from luthier_inference.settings import InferenceSettings
from luthier_kit.artifacts import Artifacts, open_artifacts
from luthier_kit.server import Service
from luthier_kit.settings import SettingsError


def build(settings: InferenceSettings, store: Artifacts | None = None) -> Service:
    """The service. SettingsError when the settings cannot work on this machine: a missing device is never replaced."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("DEVICE is cuda, but no CUDA device is found here; DEVICE=cpu is slower and a choice")
    if settings.device == "cpu" and settings.precision == "bfloat16":
        raise SettingsError("LUTHIER_PRECISION=bfloat16 needs DEVICE=cuda")
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
    models = ServedModels(store, settings.models, settings.default_model)
    loader = Loader(store, torch.device(settings.device), settings.precision, text, scratch)
    cache = ModelCache(loader, settings.models_loaded)
    generator = Generator(store, cache, settings.precision, scratch)
    servicer = InferenceServicer(store, models, cache, generator, Registrar(store, text, scratch))
    return service(servicer, Watcher(models, cache, settings.watch_every_s))

"""Puts the parts together as the settings say."""

from pathlib import Path

import torch

from luthier.inference.v1 import inference_pb2
from luthier_inference.generator import Generator
from luthier_inference.model_cache import Loader, ModelCache, Watcher
from luthier_inference.registration import Registrar
from luthier_inference.served_models import ServedModels
from luthier_inference.service import InferenceServicer
from luthier_inference.settings import InferenceSettings
from luthier_kit.rpc import Service, SettingsError
from luthier_kit.store import Store


def build_service(settings: InferenceSettings, store: Store) -> Service:
    """The service; SERVING means that the named models are loaded. SettingsError when there is no such device here: it
    is never replaced by another.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("DEVICE is cuda, but no CUDA device is found here; DEVICE=cpu is slower and a choice")
    scratch = settings.scratch / "luthier-inference"
    scratch.mkdir(parents=True, exist_ok=True)
    text = Path(settings.text_encoder) if settings.text_encoder else None
    models = ServedModels(store, settings.models, settings.default_model)
    cache = ModelCache(
        Loader(store, torch.device(settings.device), settings.precision, text, scratch), settings.models_loaded
    )
    generator = Generator(store, cache, settings.precision, scratch)
    servicer = InferenceServicer(store, models, cache, generator, Registrar(store, text, scratch))
    watcher = Watcher(models, cache, settings.watch_every_s)
    return Service(
        inference_pb2.DESCRIPTOR.services_by_name["InferenceService"],
        servicer,
        light=[servicer.ListModels, servicer.RegisterModel],
        prepare=watcher.start,
        close=watcher.stop,
    )

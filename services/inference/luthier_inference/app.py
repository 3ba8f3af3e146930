"""Puts the parts together as the settings say."""

import os
from pathlib import Path
from typing import Final

import torch

from luthier.inference.v1 import inference_pb2
from luthier_inference.credentials.signer import Signer, TimeAuthority, signer_of
from luthier_inference.credentials.trust import operators_anchors
from luthier_inference.detecting import Detector, Uploads
from luthier_inference.generator import Generator
from luthier_inference.heard import Listener
from luthier_inference.known_outputs.kept import KnownOutputs
from luthier_inference.memory import Estimates, Memory
from luthier_inference.model_cache import Loader, ModelCache, Watcher
from luthier_inference.prompts import PromptRecords
from luthier_inference.registration import Registrar
from luthier_inference.scheduler import Scheduler
from luthier_inference.served_models import ServedModels
from luthier_inference.service import InferenceServicer
from luthier_inference.settings import COMPILE, CUDA_GRAPHS, LEAVE_OUT, OFF, REQUIRED, InferenceSettings
from luthier_inference.spending import Spending
from luthier_inference.watermark import watermarker_of
from luthier_kit.quotas import Quotas, quotas_of
from luthier_kit.rpc import Front, Service, SettingsError, Workload, log_no_exception_texts
from luthier_kit.store import Store
from luthier_model.compiled import CompilerMissing, Speedups, record_cuda

LOOKED_UP: Final = 16  # calls beside those that are worked on: bad requests, and answers that are stored


def build_service(settings: InferenceSettings, store: Store) -> Service:
    """The service; SERVING means that the named models are loaded. SettingsError when there is no such device here: it
    is never replaced by another.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("DEVICE is cuda, but no CUDA device is found here; DEVICE=cpu is slower and a choice")
    scratch = settings.scratch / "luthier-inference"
    scratch.mkdir(parents=True, exist_ok=True)
    text = Path(settings.text_encoder) if settings.text_encoder else None
    models = ServedModels(store, settings.models, settings.default_model, settings.precisions)
    memory = Memory.of_device(settings.device, settings.memory_mib)
    recorded = settings.in_a_pass if CUDA_GRAPHS in settings.speedups else 0
    estimates = Estimates(settings.device, settings.precision, text, recorded)
    speedups = _speedups(settings, scratch)
    loader = Loader(
        store, torch.device(settings.device), settings.precision, text, scratch, speedups, settings.in_a_pass
    )
    cache = ModelCache(loader, loader.adapter, settings.models_loaded, memory, estimates.model)
    device, contract = torch.device(settings.device), inference_pb2.DESCRIPTOR.services_by_name["InferenceService"]
    workload = Workload(contract.full_name)
    scheduler = Scheduler(device, settings.slots, settings.queue, settings.in_a_pass, workload, memory)
    signer = _signer(settings, scratch)
    prompts = PromptRecords(settings.prompt_key if settings.prompts == LEAVE_OUT else "")
    if prompts.left_out:
        log_no_exception_texts()
    watermarker = watermarker_of(settings.watermark, settings.watermark_key)
    known = KnownOutputs(store, settings.output_log_mib << 20)
    generator = Generator(
        store, cache, scheduler, memory, estimates, settings.precision, scratch, signer, watermarker, known, prompts
    )
    listener = Listener(settings.analysis_address)
    asked = quotas_of(settings.caller_quotas)
    quotas = Quotas(store, asked, every_s=settings.quotas_every_s) if asked else None
    detector, uploads = Detector(store, signer, watermarker, known), Uploads(scratch)
    servicer = InferenceServicer(
        store, models, cache, generator, Registrar(store, text, scratch), listener, Spending(quotas), detector, uploads
    )
    watcher = Watcher(models, cache, settings.watch_every_s)

    def prepare() -> None:
        watcher.start()
        if quotas:
            quotas.start()

    def close() -> None:
        watcher.stop()
        listener.close()
        scheduler.close()
        signer.close()
        detector.close()
        if quotas:
            quotas.close()

    return Service(
        contract,
        servicer,
        light=[
            servicer.ListModels,
            servicer.RegisterModel,
            servicer.DetectMarks,
            servicer.GetUsage,
            servicer.ListUsage,
        ],
        scheduled=[servicer.Generate, servicer.StreamGenerate],
        scheduled_calls=settings.slots + settings.queue + LOOKED_UP,
        prepare=prepare,
        close=close,
        front=_front(settings, store, scratch, uploads),
    )


def _speedups(settings: InferenceSettings, scratch: Path) -> Speedups | None:
    """SettingsError where they are not to be had here. What is compiled is kept while the scratch folder is."""
    if not settings.speedups:
        return None
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(scratch / "compiled"))
    speedups = Speedups(COMPILE in settings.speedups, record_cuda if CUDA_GRAPHS in settings.speedups else None)
    try:
        speedups.check(settings.device)
    except CompilerMissing as error:
        raise SettingsError(f"LUTHIER_SPEEDUPS={COMPILE}: {error}") from error
    return speedups


def _signer(settings: InferenceSettings, scratch: Path) -> Signer:
    """Of content credentials."""
    anchors = operators_anchors(settings.credentials_trust)
    if settings.credentials == OFF:
        return Signer(None, anchors=anchors)
    authority = TimeAuthority(
        settings.credentials_authority,
        settings.credentials_authority_s,
        required=settings.credentials_time_stamp == REQUIRED,
    )
    certificate, key = settings.credentials_certificate, settings.credentials_key
    return signer_of(certificate, key, authority, scratch / "credentials", anchors)


def _front(settings: InferenceSettings, store: Store, scratch: Path, uploads: Uploads) -> Front | None:
    """HTTP, where it is asked for: else none of it is imported."""
    if settings.web_address == OFF:
        return None
    from luthier_inference.web.app import HttpFront

    return HttpFront(store, scratch, settings.web_address, settings.web_origins, uploads)

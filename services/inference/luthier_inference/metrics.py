"""What operators watch, beside the kit's calls, work in flight and work waiting."""

from prometheus_client import Counter, Gauge, Histogram

STEPS = Counter("luthier_inference_steps", "Denoising steps done", ("model",))
STEP_SECONDS = Histogram(
    "luthier_inference_step_seconds",
    "Seconds per denoising step",
    ("model",),
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
AUDIO_SECONDS = Counter("luthier_inference_audio_seconds", "Seconds of audio generated", ("model",))
REUSED = Counter("luthier_inference_reused", "Requests answered from an earlier generation")
UNSTAMPED = Counter("luthier_inference_unstamped", "Files signed without the time stamp that the authority was to give")
CERTIFICATE_EXPIRES = Gauge(
    "luthier_inference_certificate_expires_timestamp_seconds",
    "When the certificate that signs credentials expires, Unix time; 0 = none signs, or one for development",
)
CANCELLED = Counter("luthier_inference_cancelled", "Generations whose caller went away")
MODELS_LOADED = Gauge("luthier_inference_models_loaded", "Models in memory")
ADAPTERS_LOADED = Gauge("luthier_inference_adapters_loaded", "Adapters in memory, beside the models that they change")
MEMORY_TAKEN = Gauge("luthier_inference_memory_taken_bytes", "Memory of the device that models and adapters take")

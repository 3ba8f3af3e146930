"""What a run is asked to do: requests checked against their bounds, defaults filled in."""

from typing import Final

from luthier.common.v1.common_pb2 import ADAPTER_KIND_DORA, ADAPTER_KIND_LORA
from luthier.training.v1.training_pb2 import (
    EXPORTED_WEIGHTS_BEST_BY_VALIDATION,
    EXPORTED_WEIGHTS_LAST,
    Adapter,
    CreateTrainingRunRequest,
    FineTune,
    MeasureFidelity,
    TinyBase,
    TrainAutoencoder,
)
from luthier_kit.registry import MAX_ADAPTERS, MAX_REQUEST_ID_CHARS, ModelVersion
from luthier_kit.rpc import MAX_PROMPT_CHARS, Checks, InvalidRequest
from luthier_kit.store import MAX_DOCUMENT_BYTES
from luthier_model.configuration import SMALL, TINY
from luthier_training.plan import (
    MAX_BATCH,
    MAX_STEPS,
    check_continue_from,
    fill_stages,
    main_dataset,
    needs_dataset,
    plan_of,
    settle_keeping,
    settle_stages,
)
from luthier_training.seeds import seed_of

DEFAULT_STEPS, DEFAULT_BATCH, DEFAULT_RATE, DEFAULT_DROPOUT = 4000, 16, 5e-5, 0.1
TINY_STEPS, TINY_BATCH = {TINY: 400, SMALL: 1500}, 8
"""Autoencoder steps by size: one and a half minutes, and six, on one core."""
READING_STEPS = {TINY: 0, SMALL: 1500}
"""Steps in which the text encoder learns to read, by size; two minutes on one core."""
MAX_EXCERPT_S, MAX_WINDOWS = 3600.0, 64
MAX_SAMPLE_PROMPTS, MAX_SAMPLE_STEPS, MAX_SAMPLES = 8, 250, 256
"""At one validation; of one sample; of a run."""
DEFAULT_SAMPLES, DEFAULT_SAMPLE_STEPS = 2, 50
SAMPLING_SHARE = 0.05
"""Of the transformer's work in a run, which sampling takes at most where nobody says how many."""
MIN_WINDOW, MAX_WINDOW = 4096, 1 << 20
"""Samples of an autoencoder's crop: spectra of 2048 fit in, 24 s at 44.1 kHz."""
MAX_LOSS_WEIGHT = 1000.0
DEFAULT_MEASURED_CLIPS, MAX_MEASURED_CLIPS = 32, 256
DEFAULT_MEASURED_S, MAX_MEASURED_S = 30.0, 600.0
"""Of a report of fidelity: clips, and seconds of each."""
TARGETS: Final = ("attention", "feed_forward", "all")
"""Groups of the transformer's linear layers that an adapter may be put on."""
DEFAULT_RANK, MAX_RANK, MAX_ALPHA, MAX_DROPOUT = 16, 256, 4096.0, 0.9
ADAPTER_RATE = 5e-4
"""Default peak learning rate of an adapter: ten times that of all weights (Schulman 2025, LoRA Without Regret)."""


def settle(request: CreateTrainingRunRequest) -> CreateTrainingRunRequest:
    """The request that takes effect; InvalidRequest names every field that is out of bounds."""
    effective = CreateTrainingRunRequest()
    effective.CopyFrom(request)
    checks = Checks()
    checks.text("request_id", request.request_id, max_chars=MAX_REQUEST_ID_CHARS, blank=False)
    if needs_dataset(request.fine_tune) or request.HasField("dataset"):
        checks.artifact("dataset", request.dataset, max_bytes=MAX_DOCUMENT_BYTES)
    if request.HasField("fidelity"):
        checks.that(not request.model_name, "model_name", "must be empty: nothing is registered")
    else:
        checks.name("model_name", request.model_name)
    checks.text("created_by", request.created_by, max_chars=100)
    if request.HasField("fine_tune"):
        _settle_fine_tune(effective.fine_tune, checks)
    elif request.HasField("tiny_base"):
        _settle_tiny_base(effective.tiny_base, checks)
    elif request.HasField("autoencoder"):
        _settle_autoencoder(effective.autoencoder, checks)
    elif request.HasField("fidelity"):
        _settle_fidelity(effective.fidelity, checks)
    else:
        checks.that(False, "recipe", "must be fine_tune, tiny_base, autoencoder or fidelity")
    checks.done()
    if not effective.HasField("dataset"):
        effective.dataset.CopyFrom(main_dataset(effective.fine_tune))
    if effective.fine_tune.stages:
        named = effective.dataset.sha256 in {ref.sha256 for ref in plan_of(effective).datasets}
        checks.that(named, "dataset", "must be absent where no stage draws from it")
        checks.done()
    if not request.HasField("seed"):
        effective.seed = seed_of("training", request.request_id)
    return effective


def _settle_fine_tune(asked: FineTune, checks: Checks) -> None:
    at = "fine_tune."
    checks.text(f"{at}base_model", asked.base_model, max_chars=128, blank=False)
    if asked.stages and not settle_stages(asked, checks):
        return
    usual_rate = ADAPTER_RATE if asked.HasField("adapter") else DEFAULT_RATE
    _default(asked, steps=DEFAULT_STEPS, batch_size=DEFAULT_BATCH, learning_rate=usual_rate)
    _default(asked, conditioning_dropout=DEFAULT_DROPOUT, ema_decay=0.0, warmup_steps=0, accumulate=1)
    if asked.HasField("adapter"):
        _settle_adapter(asked.adapter, checks)
    tenth = max(1, asked.steps // 10)
    _default(asked, validate_every=tenth, checkpoint_every=tenth, min_excerpt_s=0.0, metadata_share=0.0)
    if not checks.within(f"{at}steps", asked.steps, 1, MAX_STEPS):
        return  # the bounds of others follow from it
    checks.within(f"{at}batch_size", asked.batch_size, 1, MAX_BATCH)
    checks.within(f"{at}learning_rate", asked.learning_rate, 1e-8, 0.1)
    checks.within(f"{at}conditioning_dropout", asked.conditioning_dropout, 0, 0.9)
    checks.within(f"{at}validate_every", asked.validate_every, 1, asked.steps)
    checks.within(f"{at}checkpoint_every", asked.checkpoint_every, 1, asked.steps)
    checks.within(f"{at}ema_decay", asked.ema_decay, 0, 0.99999)
    checks.within(f"{at}warmup_steps", asked.warmup_steps, 0, asked.steps)
    checks.within(f"{at}accumulate", asked.accumulate, 1, MAX_BATCH)
    fill_stages(asked, checks)
    settle_keeping(asked, checks)
    _default(asked, window_seconds=0.0)
    checks.within(f"{at}window_seconds", asked.window_seconds, 0, MAX_EXCERPT_S)
    checks.within(f"{at}min_excerpt_s", asked.min_excerpt_s, 0, MAX_EXCERPT_S)
    checks.within(f"{at}metadata_share", asked.metadata_share, 0, 1)
    if checks.within(f"{at}windows_per_clip", asked.windows_per_clip, 0, MAX_WINDOWS) and asked.windows_per_clip:
        checks.that(not asked.cut_to_window, f"{at}cut_to_window", "must not come with windows_per_clip")
    _settle_samples(asked, checks, at)
    if asked.HasField("timestep_logit_mean"):
        _default(asked, timestep_logit_deviation=1.0)
        checks.within(f"{at}timestep_logit_mean", asked.timestep_logit_mean, -10, 10)
        checks.within(f"{at}timestep_logit_deviation", asked.timestep_logit_deviation, 0.1, 10)
    elif asked.HasField("timestep_logit_deviation"):
        checks.that(False, f"{at}timestep_logit_deviation", "must come with timestep_logit_mean")


def _settle_samples(asked: FineTune, checks: Checks, at: str) -> None:
    """Work is counted in evaluations of the transformer for one clip: a step of training takes three for each clip,
    forward and back, a step of denoising two, with and without the prompt.
    """
    _default(asked, sample_steps=DEFAULT_SAMPLE_STEPS)
    if not checks.within(f"{at}sample_steps", asked.sample_steps, 1, MAX_SAMPLE_STEPS):
        return
    validations = 1 + -(-asked.steps // max(asked.validate_every, 1))
    prompts = len(asked.sample_prompts)
    if prompts:
        for field, prompt in checks.items(f"{at}sample_prompts", asked.sample_prompts, 0, MAX_SAMPLE_PROMPTS):
            checks.text(field, prompt, max_chars=MAX_PROMPT_CHARS, blank=False)
        checks.that(not asked.HasField("samples"), f"{at}samples", "must be absent beside sample_prompts")
        prompts = min(prompts, MAX_SAMPLE_PROMPTS)
    elif asked.HasField("samples"):
        checks.within(f"{at}samples", asked.samples, 0, MAX_SAMPLE_PROMPTS)
        prompts = asked.samples
    else:
        clips = sum(stage.steps * stage.batch_size for stage in asked.stages) or asked.steps * asked.batch_size
        training = 3 * clips * asked.accumulate
        affordable = int(SAMPLING_SHARE * training / (2 * asked.sample_steps * validations))
        asked.samples = min(DEFAULT_SAMPLES, affordable, MAX_SAMPLES // validations)
    most = MAX_SAMPLES // validations
    checks.that(
        prompts <= most,
        f"{at}validate_every",
        f"must be larger: {prompts} samples at each of {validations} validations are more than {MAX_SAMPLES} in all",
    )


def _settle_adapter(asked: Adapter, checks: Checks) -> None:
    at = "fine_tune.adapter."
    _default(asked, kind=ADAPTER_KIND_LORA, rank=DEFAULT_RANK, dropout=0.0)
    _default(asked, alpha=float(asked.rank))
    kinds = (ADAPTER_KIND_LORA, ADAPTER_KIND_DORA)
    checks.that(asked.kind in kinds, f"{at}kind", f"must be LORA or DORA, got {asked.kind}")
    checks.within(f"{at}rank", asked.rank, 1, MAX_RANK)
    checks.within(f"{at}dropout", asked.dropout, 0, MAX_DROPOUT)
    fits = 0 < asked.alpha <= MAX_ALPHA  # NaN does not
    checks.that(fits, f"{at}alpha", f"must be above 0 and at most {MAX_ALPHA:.0f}, got {asked.alpha}")
    checks.count(f"{at}targets", asked.targets, 0, len(TARGETS))
    for index, target in enumerate(asked.targets[: len(TARGETS)]):
        checks.one_of(f"{at}targets[{index}]", target, TARGETS)
    if not asked.targets:
        asked.targets.extend(("attention", "feed_forward"))


def check_base(asked: FineTune, base: ModelVersion) -> None:
    """InvalidRequest when the base has as many adapters as a version may have, and another is asked for."""
    if asked.HasField("adapter") and len(base.adapters) >= MAX_ADAPTERS:
        bound = (
            f"{base.label} has {MAX_ADAPTERS} adapters, the most there may be: fine-tune it without one, to merge them"
        )
        raise InvalidRequest(violations=[("fine_tune.base_model", bound)])


def _settle_tiny_base(asked: TinyBase, checks: Checks) -> None:
    if not asked.HasField("size"):
        asked.size = TINY
    if not checks.that(
        asked.size in TINY_STEPS, "tiny_base.size", f"must be {' or '.join(TINY_STEPS)}, got {asked.size[:80]!r}"
    ):
        return
    _default(asked, autoencoder_steps=TINY_STEPS[asked.size], batch_size=TINY_BATCH)
    _default(asked, reading_steps=READING_STEPS[asked.size])
    checks.within("tiny_base.autoencoder_steps", asked.autoencoder_steps, 1, 100_000)
    checks.within("tiny_base.batch_size", asked.batch_size, 1, 64)
    checks.within("tiny_base.reading_steps", asked.reading_steps, 0, 100_000)


def _settle_autoencoder(asked: TrainAutoencoder, checks: Checks) -> None:
    """Defaults are those of Stable Audio Open's autoencoder."""
    at = "autoencoder."
    checks.text(f"{at}base_model", asked.base_model, max_chars=128, blank=False)
    _default(asked, decoder_only=not asked.random_start, random_start=False, a_weighting=True)
    _default(asked, steps=20_000, batch_size=16, window_samples=65_536, accumulate=1, ema_decay=0.9999)
    _default(asked, learning_rate=1.5e-4, discriminator_learning_rate=3e-4, warmup_steps=0, discriminator_filters=64)
    _default(asked, spectral_weight=1.0, sample_weight=0.0, adversarial_weight=0.1, feature_matching_weight=5.0)
    tenth = max(1, asked.steps // 10)
    _default(asked, kl_weight=1e-4, validate_every=tenth, checkpoint_every=tenth)
    _default(asked, discriminator_warmup_steps=asked.steps // 10)
    alone = not (asked.random_start and asked.decoder_only)
    checks.that(alone, f"{at}random_start", "must be false with decoder_only: a decoder learns from latents of sound")
    if not checks.within(f"{at}steps", asked.steps, 1, MAX_STEPS):
        return  # the bounds of others follow from it
    for name, low, high in (
        ("batch_size", 1, MAX_BATCH),
        ("window_samples", MIN_WINDOW, MAX_WINDOW),
        ("learning_rate", 1e-8, 0.1),
        ("discriminator_learning_rate", 1e-8, 0.1),
        ("warmup_steps", 0, asked.steps),
        ("discriminator_warmup_steps", 0, asked.steps),
        ("discriminator_filters", 1, 256),
        ("spectral_weight", 0, MAX_LOSS_WEIGHT),
        ("sample_weight", 0, MAX_LOSS_WEIGHT),
        ("adversarial_weight", 0, MAX_LOSS_WEIGHT),
        ("feature_matching_weight", 0, MAX_LOSS_WEIGHT),
        ("kl_weight", 0, 1),
        ("accumulate", 1, MAX_BATCH),
        ("validate_every", 1, asked.steps),
        ("checkpoint_every", 1, asked.steps),
        ("ema_decay", 0, 0.99999),
    ):
        checks.within(f"{at}{name}", getattr(asked, name), low, high)
    exports = (EXPORTED_WEIGHTS_LAST, EXPORTED_WEIGHTS_BEST_BY_VALIDATION)
    if not asked.HasField("export"):
        asked.export = EXPORTED_WEIGHTS_LAST
    checks.that(asked.export in exports, f"{at}export", f"must be LAST or BEST_BY_VALIDATION, got {asked.export}")
    if asked.HasField("continue_from"):
        check_continue_from(asked.continue_from, checks, at)
        bound = "must be true; to train on, name the version that the run registered as base_model"
        checks.that(asked.continue_from.same_plan, f"{at}continue_from.same_plan", bound)
    learns = asked.spectral_weight or asked.sample_weight
    checks.that(bool(learns), f"{at}spectral_weight", "must be above 0, or sample_weight must")


def _settle_fidelity(asked: MeasureFidelity, checks: Checks) -> None:
    checks.text("fidelity.model", asked.model, max_chars=128, blank=False)
    if asked.HasField("baseline"):
        checks.text("fidelity.baseline", asked.baseline, max_chars=128, blank=False)
    _default(asked, clips=DEFAULT_MEASURED_CLIPS, max_clip_s=DEFAULT_MEASURED_S)
    checks.within("fidelity.clips", asked.clips, 1, MAX_MEASURED_CLIPS)
    checks.within("fidelity.max_clip_s", asked.max_clip_s, 1, MAX_MEASURED_S)


def _default(message: FineTune | Adapter | TinyBase | TrainAutoencoder | MeasureFidelity, **values: float) -> None:
    for name, value in values.items():
        if not message.HasField(name):
            setattr(message, name, value)

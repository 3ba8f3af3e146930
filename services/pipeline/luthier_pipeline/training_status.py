"""A training run in words: in a line of progress, and in full."""

from luthier.training.v1.training_pb2 import GetTrainingRunRequest, RunState, TrainingRun
from luthier_kit.rpc import error_of
from luthier_pipeline.clients import Clients
from luthier_pipeline.console import UsageError, clock
from luthier_pipeline.run_ids import identity_of


def training_named(clients: Clients, run_id: str) -> TrainingRun:
    """The training whose id begins so. Raises UsageError and NotFound, as `identity_of`."""
    identity = identity_of(clients.store, run_id)
    if not identity.startswith("training-"):
        raise UsageError(f"{identity} is no training")
    return clients.training.GetTrainingRun(GetTrainingRunRequest(run_id=identity)).run


def in_short(run: TrainingRun) -> str:
    """Losses, learning rate and gradient, as far as there are any."""
    parts = [run.training_stage] if run.training_stage and run.stage == "train" else []
    parts += [f"loss {run.loss:.4f}"] if run.HasField("loss") else []
    parts += [f"validation {_validation(run)}"] if run.validation else []
    parts += [f"SI-SDR {run.fidelity[-1].si_sdr_db:.1f} dB"] if run.fidelity else []
    parts += [_rate_and_norm(run)] if run.HasField("learning_rate") else []
    return ", ".join(parts)


def in_full(run: TrainingRun) -> str:
    """All that a person asks of a run, a line for each subject."""
    state = RunState.Name(run.state).removeprefix("RUN_STATE_")
    work = f"{run.stage} {run.done} of {run.total}" if run.total else run.stage
    to_go = f"{clock(run.eta_s)} to go" if run.HasField("eta_s") and state == "RUNNING" else ""
    attempts = f"attempt {run.attempts}" if run.attempts > 1 else ""
    trained_from = run.request.fine_tune.base_model or run.request.autoencoder.base_model
    base = f" from {trained_from}" if trained_from else ""
    lines = [f"{run.run_id}  {state}  {', '.join(filter(None, (work, to_go, attempts)))}"]
    if run.request.HasField("fidelity"):
        lines += [f"fidelity of   {run.base or run.request.fidelity.model}"]
    else:
        lines += [f"model         {run.model or run.request.model_name}{base}"]
    if run.HasField("error"):
        error = error_of(run.error)
        lines += [f"error         {error.reason}: {error}"]
    if run.HasField("loss"):
        observed = f", {_rate_and_norm(run)}" if run.HasField("learning_rate") else ""
        lines += [f"loss          {run.loss:.4f}{observed}"]
    if run.validation:
        lines += [f"validation    {_validation(run)}, step {run.validation[-1].step}"]
    lines += _autoencoder(run)
    if run.validation_by_timestep:
        each = ", ".join(f"{point.loss:.4f} at {point.timestep:.1f}" for point in run.validation_by_timestep)
        lines += [f"by timestep   {each} (0 = clean, 1 = noise)"]
    if run.HasField("memory"):
        needed, free = (count / (1 << 30) for count in (run.memory.needed_bytes, run.memory.free_bytes))
        how = "recomputed" if run.memory.recomputes_activations else "kept"
        activations = f", activations {how}" if run.request.HasField("fine_tune") else ""
        lines += [f"memory        about {needed:.1f} of {free:.1f} GiB{activations}"]
    if run.HasField("checkpoint"):
        lines += [f"checkpoint    {run.checkpoint.key}"]
    if run.samples:
        newest = run.samples[-1].step
        lines += [f"samples       {len(run.samples)}, the newest of step {newest}:"]
        lines += [f"  {sample.audio.key}  {sample.prompt}" for sample in run.samples if sample.step == newest]
    if run.logs:
        lines += [f"TensorBoard   up to step {run.logs[-1].last_step}: luthier logs {run.run_id} FOLDER"]
    return "\n".join(lines)


def _autoencoder(run: TrainingRun) -> list[str]:
    """What is known of an autoencoder that is trained or measured."""
    lines = []
    if run.fidelity:
        first, last = run.fidelity[0], run.fidelity[-1]
        mel, ratio = f"{first.mel:.4f} -> {last.mel:.4f}", f"{first.si_sdr_db:.1f} -> {last.si_sdr_db:.1f} dB"
        lines += [f"fidelity      mel spectra {mel}, SI-SDR {ratio}, step {last.step}"]
    if run.HasField("fidelity_report"):
        found = run.fidelity_report
        beside = f" beside {found.baseline}" if found.baseline else ""
        lines += [f"report        {len(found.clips)} clips{beside}: {found.page.key}"]
    if run.discriminator:
        lines += [f"discriminator {run.discriminator[-1].loss:.4f}"]
    return lines


def _validation(run: TrainingRun) -> str:
    """The newest validation loss, against the base's."""
    base, newest = run.validation[0], run.validation[-1]
    against = f" (base {base.loss:.4f})" if newest.step else ""
    return f"{newest.loss:.4f}{against}"


def _rate_and_norm(run: TrainingRun) -> str:
    return f"rate {run.learning_rate:.2g}, gradient {run.gradient_norm:.2g}"

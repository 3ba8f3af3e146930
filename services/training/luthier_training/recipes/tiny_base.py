"""Makes a base model from a data set: its Oobleck autoencoder is trained on the training clips, its tokenizer on
their prompts; the transformer stays random, for fine-tuning to start from, and so does the text encoder of the size
`tiny`. That of `small` learns to read first (`reading`).

The autoencoder learns by the multi-resolution STFT distance (Yamamoto 2020, as stable-audio-tools ships it) and the
absolute error of samples, with a small Kullback-Leibler term (Kingma 2013). There is no discriminator: a few hundred
steps on a CPU are too few for one. The layers start with unit variance on a first batch (Salimans 2016, data-dependent
initialisation for weight normalisation); without it the output stays inaudible for the first hundred steps.

An attempt takes minutes and starts over when it was killed; the same request gives the same weights.
"""

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from stable_audio_tools.models.autoencoders import AudioAutoencoder
from stable_audio_tools.training.losses.auraloss import MultiResolutionSTFTLoss
from torch import nn

from luthier.curation.v1.dataset_pb2 import DatasetManifest
from luthier.training.v1.training_pb2 import LossPoint
from luthier_kit.registry import RANDOM, TRANSFORMER, ModelVersion
from luthier_kit.rpc import TRAIN
from luthier_model import checkpoint, text_encoder, tiny
from luthier_model.configuration import TINY, Configuration
from luthier_model.network import random_model
from luthier_training import audio
from luthier_training.base_model import posterior_of
from luthier_training.crops import crop_start
from luthier_training.dataset import prompts_of, read_manifest, registered_name, rows_of
from luthier_training.job import Job
from luthier_training.recipes import reading
from luthier_training.reporting import Stopped
from luthier_training.requests import READING_STEPS
from luthier_training.seeds import seed_of

MAX_CLIPS = 100
"""Clips that the autoencoder is trained on; they are held in memory, 4 MB a clip of 30 s."""
CROP_SAMPLES = 8192
FFT_SIZES = (1024, 256, 64)
"""Windows of the STFT distance in samples, 64 to 4 ms at 16 kHz."""
PEAK_RATE, WARMUP_STEPS = 3e-3, 20
SAMPLE_WEIGHT, KL_WEIGHT = 10.0, 1e-4
START_DEVIATION = 0.1
"""Standard deviation of a latent at the start: small, so that the latents carry the clip rather than noise."""
OUTPUT_LEVEL = 0.1
"""RMS of the decoder's output at the start, near that of music at -20 LUFS."""
MAX_POINTS = 500
"""Losses kept of a run."""


def run(job: Job) -> ModelVersion:
    """The version to register."""
    if job.ranks.rank:  # too small to share
        raise Stopped
    asked, seed, reporter = job.request.tiny_base, job.request.seed, job.reporter
    reporter.stage("fetch")
    size = asked.size or TINY  # a request of an earlier release names none
    dataset, known = read_manifest(job.store, job.request.dataset), tiny.configuration(size=size)
    chosen = rows_of(dataset, TRAIN)
    random.Random(seed).shuffle(chosen)
    chosen, clips = chosen[:MAX_CLIPS], []
    for number, clip in enumerate(chosen, 1):
        path = job.store.blobs.fetch(clip.audio, job.folder("audio"))
        clips.append(audio.read(path, known))
        path.unlink()
        reporter.advance(number, len(chosen))
        reporter.check()

    model = random_model(known, seed_of(seed, "weights"))
    job.choose_threads(sum(parameter.numel() for parameter in model.parameters()))
    reporter.stage("train", asked.autoencoder_steps)
    points: list[LossPoint] = []

    def report(step: int, loss: float) -> bool:
        if step % max(1, asked.autoencoder_steps // MAX_POINTS) == 0:
            points.append(LossPoint(step=step, loss=loss))
        reporter.advance(step, asked.autoencoder_steps, loss, points)
        return reporter.going

    autoencoder, torch_seed = model.pretransform.model, seed_of(seed, "autoencoder") % (1 << 31)
    if not train(autoencoder, clips, asked.autoencoder_steps, asked.batch_size, torch_seed, report):
        raise Stopped

    scale, text = latent_scale(autoencoder, clips, known.downsampling_ratio), job.folder("export") / "text_encoder"
    prompts, text_seed = prompts_of(rows_of(dataset, TRAIN)), seed_of(seed, "text") % (1 << 31)
    tiny.write_text_encoder(prompts, known.cond_dim, text, text_seed)
    # a request of an earlier release names no steps of reading
    if steps := asked.reading_steps if asked.HasField("reading_steps") else READING_STEPS[size]:
        reporter.stage("read", steps)

        def read(step: int, loss: float) -> bool:
            reporter.advance(step, steps, loss)
            return reporter.going

        if not reading.train(text, prompts, steps, text_seed, read):
            raise Stopped
    reporter.stage("export")
    return export(job, dataset, tiny.configuration(scale, size), model.state_dict(), text)


def train(
    model: AudioAutoencoder,
    clips: Sequence[torch.Tensor],
    steps: int,
    batch_size: int,
    seed: int,
    report: Callable[[int, float], bool],
) -> bool:
    """Trains in place on clips of (channels, samples); `report(steps done, loss)` says whether to go on, False when it
    said no. Deterministic by seed.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model.train().requires_grad_(True)
    start(model, crops(clips, batch_size, generator))
    distance = MultiResolutionSTFTLoss(
        fft_sizes=list(FFT_SIZES), hop_sizes=[n // 4 for n in FFT_SIZES], win_lengths=list(FFT_SIZES)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.8, 0.99))
    for step in range(steps):
        for group in optimizer.param_groups:  # linear warm-up, then half a cosine
            warm = min(1.0, (step + 1) / WARMUP_STEPS)
            group["lr"] = PEAK_RATE * (warm * 0.5 * (1 + math.cos(math.pi * step / steps)))
        batch = crops(clips, batch_size, generator)
        latents, info = model.encode(batch, return_info=True)
        decoded = model.decode(latents)
        error = distance(decoded, batch) + SAMPLE_WEIGHT * (decoded - batch).abs().mean()
        loss = error + KL_WEIGHT * info["kl"]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if not report(step + 1, float(loss)):
            return False
    model.eval().requires_grad_(False)
    return True


def crops(clips: Sequence[torch.Tensor], count: int, generator: torch.Generator) -> torch.Tensor:
    """(count, channels, CROP_SAMPLES) from random places; some hold the end of a clip and the silence behind it."""
    batch = torch.zeros(count, clips[0].shape[0], CROP_SAMPLES)
    which = torch.randint(len(clips), (count,), generator=generator)
    place, ending = torch.rand(2, count, generator=generator)
    for row in range(count):
        clip = clips[int(which[row])]
        first = crop_start(clip.shape[1], CROP_SAMPLES, place[row], ending[row])
        piece = clip[:, first : first + CROP_SAMPLES]
        batch[row, :, : piece.shape[1]] = piece
    return batch


def start(model: AudioAutoencoder, audio: torch.Tensor) -> None:
    """Sets the gains so that each layer's output has unit variance on `audio`, latents start nearly without noise."""
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d)]
    hooks = [layer.register_forward_hook(_unit_variance) for layer in convolutions]
    with torch.no_grad():
        mean, _ = model.encoder(audio).chunk(2, dim=1)
        model.decoder(mean)
        for hook in hooks:
            hook.remove()
        to_latents = model.encoder.layers[-1]
        half = mean.shape[1]
        to_latents.weight_g[half:] *= 0.1
        to_latents.bias[half:] = math.log(math.expm1(START_DEVIATION))
        last = [m for m in model.decoder.modules() if isinstance(m, nn.Conv1d)][-1]
        last.weight_g.mul_(OUTPUT_LEVEL)  # type: ignore[operator]


def _unit_variance(layer: nn.Module, _inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    """Divides gain and bias by the deviation; a transposed convolution has gains per input channel, so one for all."""
    whole = isinstance(layer, nn.ConvTranspose1d)
    spread = output.std() if whole else output.std(dim=(0, 2))
    spread = spread.clamp_min(1e-4)
    mean = output.mean(dim=(0, 2)) if layer.bias is not None else torch.zeros(output.shape[1])
    layer.weight_g.div_(spread if whole else spread.view(-1, 1, 1))  # type: ignore[operator]
    if layer.bias is not None:
        layer.bias.sub_(mean).div_(spread)  # type: ignore[operator]
    return (output - mean.view(1, -1, 1)) / (spread if whole else spread.view(1, -1, 1))


def latent_scale(model: AudioAutoencoder, clips: Sequence[torch.Tensor], ratio: int) -> float:
    """Standard deviation of the clips' latents, so that scaled latents have unit variance."""
    means = [posterior_of(model, clip[None, :, : clip.shape[1] // ratio * ratio])[0].flatten() for clip in clips]
    return max(1e-3, round(float(torch.cat(means).std()), 6))


def export(
    job: Job, dataset: DatasetManifest, known: Configuration, state: dict[str, torch.Tensor], text: Path
) -> ModelVersion:
    """The version of the trained autoencoder and the rest, its files stored; `text` is the text encoder's folder."""
    weights = job.folder("export") / "tiny.safetensors"
    checkpoint.write(weights, state, {"format": "pt", "moving_average": "false"})
    placed = checkpoint.verify(weights, known)
    configuration = json.dumps(known.document, indent=1, sort_keys=True).encode()
    return ModelVersion(
        name=job.request.model_name,
        checkpoint=job.store.blobs.put_file("checkpoints", weights),
        configuration=job.store.blobs.put_bytes("configurations", configuration, "json", "application/json"),
        text_encoder=tuple((p.name, job.store.blobs.put_file("text_encoders", p)) for p in text_encoder.files(text)),
        autoencoder_digest=checkpoint.autoencoder_digest(weights, placed, known),
        dataset=job.request.dataset,
        dataset_name=registered_name(job.store, dataset.name, job.request.dataset.sha256),
        notes={
            "tiny": True,
            "moving_average": False,
            TRANSFORMER: RANDOM,
            "run": job.run_id,
            "seed": str(job.request.seed),
            "licences": list(dataset.licences),
        },
        created_by=job.request.created_by,
        reason=f"{job.request.tiny_base.size or TINY} base made by {job.run_id}",
    )

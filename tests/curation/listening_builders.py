"""Listening tests as the command would ask for them."""

from pathlib import Path

import numpy as np
import soundfile

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1 import listening_pb2 as pb
from luthier_kit.store import Store

QUALITY, PROMPT, MUSICALITY, STEREO = (
    pb.LISTENING_QUESTION_AUDIO_QUALITY,
    pb.LISTENING_QUESTION_PROMPT_ADHERENCE,
    pb.LISTENING_QUESTION_MUSICALITY,
    pb.LISTENING_QUESTION_STEREO,
)
MOS, MUSHRA = pb.LISTENING_KIND_MOS, pb.LISTENING_KIND_MUSHRA
RATE_HZ = 44_100


def noise(seconds: float, seed: int, channels: int = 2, level: float = 0.1) -> np.ndarray:
    """White noise [frames, channels]: its spectrum is flat, so what a filter did to it is seen."""
    values = np.random.default_rng(seed).uniform(-level, level, (round(seconds * RATE_HZ), channels))
    return values.astype(np.float32)


def put(
    store: Store, samples: np.ndarray, folder: Path, kind: str = "generated", rate_hz: int = RATE_HZ
) -> ArtifactRef:
    """Samples as a FLAC in the store, with a comment that tells on its maker, as generated audio has."""
    path = folder / "sound.flac"
    with soundfile.SoundFile(path, "w", rate_hz, samples.shape[1], "PCM_16", format="FLAC") as file:
        file.comment = "made by secret-model"
        file.write(samples)
    return store.blobs.put_file(kind, path, media_type="audio/flac")


def create(
    store: Store,
    folder: Path,
    *,
    kind: pb.ListeningKind = MUSHRA,
    trials: int = 2,
    systems: tuple[str, ...] = ("secret-model@1", "base@2"),
    questions: tuple[pb.ListeningQuestion, ...] = (QUALITY, PROMPT),
    reference: bool = True,
    training: int = 0,
    seconds: float = 0.4,
    channels: int = 2,
    name: str = "ours-vs-base",
) -> pb.CreateListeningTestRequest:
    """A request whose sounds are all different."""
    request = pb.CreateListeningTestRequest(
        request_id=f"of {name}",
        name=name,
        kind=kind,
        questions=questions,
        make_anchor=reference and kind == MUSHRA,
        created_by="Ada",
    )
    for trial in range(trials):
        stimuli = [
            pb.ListeningStimulus(system=system, audio=put(store, noise(seconds, 100 * trial + index, channels), folder))
            for index, system in enumerate(systems)
        ]
        made = pb.ListeningTrial(prompt=f"A calm piece, number {trial}", stimuli=stimuli, training=trial < training)
        if reference:
            made.reference.CopyFrom(put(store, noise(seconds, 100 * trial + 99, channels), folder, "audio"))
        request.trials.append(made)
    return request

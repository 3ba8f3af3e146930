"""The example report of the README, from made-up measurements: `example_report.py OUT.html [OUT.png]`.

Run it from the repository's folder with the environment of services/evaluation; the picture needs Debian's `chromium`.
"""

import io
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from luthier.common.v1.common_pb2 import ArtifactRef, Span, TempoFact
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.plan import shipped_suite, suite_sha256
from luthier_evaluation.report.page import render
from luthier_evaluation.scores import genre_scores, score_table
from luthier_kit.store import Store, StoreSettings, open_store
from luthier_music.key_facts import key_fact, key_of
from luthier_music.keys import ALL_KEYS, Key

RATE = 22_050
LENGTH_S = 32.0
WINDOW_S = 47.0
ROWS = 96
MODELS = ("base@1", "tuned@3")
FOLLOWS = {"base@1": 0.35, "tuned@3": 0.85}  # share of the rows that are as asked
WIDTH, HEIGHT = 1200, 5400  # of the picture, pixels: to the first rows to listen to
COLOURS = 160  # of the picture


def plan() -> pb.EvaluationPlan:
    """Rows that ask for a tempo and a key each, over two models."""
    tempi, keys = shipped_suite("paper-tempo").rows, shipped_suite("paper-key").rows
    suite = pb.Suite(name="example", description="Made-up measurements, to show what a report looks like.")
    for number in range(ROWS):
        row = suite.rows.add()
        row.CopyFrom(keys[2 * number])
        row.seconds_total, row.tempo_bpm = 2.0 + number * 7 % 31, tempi[number].tempo_bpm
        row.prompt = f"{row.prompt.removesuffix('.')}, at {row.tempo_bpm:g} BPM."
    models = [pb.EvaluatedModel(model=name, model_digest=f"sha256:{name.encode().hex():0<64}") for name in MODELS]
    return pb.EvaluationPlan(suite=suite, models=models, own_steps=True, own_guidance=True, measure_end=True)


def measured(plan: pb.EvaluationPlan, audio: ArtifactRef, dice: np.random.Generator) -> list[pb.RowResult]:
    """What a model that follows the prompt in some of its rows is measured to do."""
    rows = []
    for number, row in enumerate(plan.suite.rows):
        for model in MODELS:
            asked = key_of(row.key)
            assert asked
            right, near = dice.random(2) < FOLLOWS[model]
            tempo = row.tempo_bpm * dice.choice([1, 1, 1, 0.5, 2]) if right else dice.uniform(60, 180)
            other = (asked, Key((asked.tonic + 7) % 12, asked.mode), Key(asked.tonic, "minor"))[dice.integers(3)]
            key = asked if near else (other, ALL_KEYS[dice.integers(len(ALL_KEYS))])[dice.integers(2)]
            end_s = min(WINDOW_S, row.seconds_total + dice.exponential(1 if model == MODELS[1] else 8) - 0.4)
            result = pb.RowResult(
                row=number, model=model, audio=audio, duration_s=row.seconds_total, compute_s=3.2, steps=100,
                sampler="dpmpp-3m-sde", guidance_scale=7, clipped_share=0, sounding_s=end_s, untrimmed_s=WINDOW_S,
                loudness_lufs=-16 + dice.normal(),
                tempo=TempoFact(tempo_bpm=tempo * (1 + 0.004 * dice.normal()), estimator="made-up"),
                key=key_fact(key),
                beat_tempo=TempoFact(tempo_bpm=tempo * dice.choice([1, 1, 1, 1.3]), estimator="made-up-too"),
            )  # fmt: skip
            result.key.estimator = "made-up"
            bounds = (0, 12, 20, LENGTH_S)
            for (start_s, stop_s), label in zip(pairwise(bounds), "ABA", strict=True):
                result.sections.add(span=Span(start_s=start_s, end_s=stop_s), label=label)
            rows.append(result)
    return rows


def song() -> bytes:
    """Two parts of chords, A B A, as FLAC."""
    parts = ((0, 12, (0, 7, 9, 5)), (12, 20, (2, 4, 11, 6)), (20, LENGTH_S, (0, 7, 9, 5)))
    time_s = np.arange(round(LENGTH_S * RATE)) / RATE
    out = np.zeros_like(time_s)
    for start_s, stop_s, roots in parts:
        for number, root in enumerate(np.resize(roots, round((stop_s - start_s) / 2))):
            here = (time_s >= start_s + 2 * number) & (time_s < start_s + 2 * number + 2)
            local = time_s[here] - time_s[here][0]
            tones = [np.sin(2 * np.pi * 130.81 * 2 ** ((root + step) / 12) * local) for step in (0, 4, 7, 12)]
            out[here] = 0.15 * np.sum(tones, axis=0) * np.exp(-local)
    data = io.BytesIO()
    soundfile.write(data, np.stack([out, out], axis=1), RATE, format="FLAC")
    return data.getvalue()


def example(store: Store) -> pb.EvaluationResults:
    """The results of the made-up evaluation."""
    made = plan()
    audio = store.blobs.put_bytes("generated", song(), "flac", "audio/flac")
    rows = measured(made, audio, np.random.default_rng(1))
    results = pb.EvaluationResults(
        evaluation_id="evaluation-example",
        plan=made,
        suite_sha256=suite_sha256(made.suite),
        scores=score_table(made, rows, lambda _model, _rows: ()),
        genre_scores=genre_scores(made, rows),
        rows=rows,
        tempo_estimators=["made-up"],
        key_estimators=["made-up"],
        evaluator="example",
        machine="made up",
    )
    results.created_at.FromJsonString("2026-11-30T00:00:00Z")
    results.finished_at.FromJsonString("2026-11-30T00:10:00Z")
    return results


def main(page: Path, picture: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(StoreSettings(store_folder=Path(folder)))
        page.write_text(render(example(store), store), encoding="utf-8")
    if picture:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        size = f"--window-size={WIDTH},{HEIGHT}"
        subprocess.run(["chromium", *flags, size, f"--screenshot={picture}", page.absolute().as_uri()], check=True)
        Image.open(picture).convert("RGB").quantize(COLOURS).save(picture, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)

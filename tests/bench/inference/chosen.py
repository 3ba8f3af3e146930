"""What a caller's choice of precision costs and saves, in what is heard: `chosen.py HOST:PORT MODEL [--rows N]`.

Of a running inference service that knows an analysis service, with the model of `make demo`; from the repository's
root: `services/inference/.venv/bin/python tests/bench/inference/chosen.py 127.0.0.1:7107 demo`. Each row is a genre at
a tempo that the model was trained on, with a seed of its own and the same in each precision. Printed: rows whose tempo
is heard as asked, the device's seconds for a row, and how far the audio is from that in float32 (of its spread).
"""

import argparse
import io
import statistics
from itertools import product

import grpc
import numpy as np
import soundfile

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1 import inference_pb2_grpc

GENRES = ("rock", "jazz", "pop", "house")
TEMPI_BPM = (80, 100, 125, 150)
SECONDS = 4.096  # the window of the demo's model
STEPS, GUIDANCE = 50, 3  # as the demo asks for
PRECISIONS = {"float32": pb.PRECISION_FLOAT32, "bfloat16": pb.PRECISION_BFLOAT16, "int8": pb.PRECISION_INT8}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("address")
    arguments.add_argument("model")
    arguments.add_argument("--rows", type=int, default=32)
    given = arguments.parse_args()
    rows = [(seed, *pair) for seed, pair in zip(range(given.rows), list(product(GENRES, TEMPI_BPM)) * 8, strict=False)]
    exact: dict[int, np.ndarray] = {}
    with grpc.insecure_channel(given.address) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        for name, precision in PRECISIONS.items():
            obeyed, seconds, apart = 0, [], []
            for seed, genre, tempo_bpm in rows:
                request = pb.GenerateRequest(
                    prompt=f"A {genre} song",
                    model=given.model,
                    steps=STEPS,
                    guidance_scale=GUIDANCE,
                    seconds_total=SECONDS,
                    seed=5000 + seed,
                    music=pb.MusicFields(tempo_bpm=tempo_bpm),
                    precision=precision,
                    inline_audio=True,
                )
                response = inference.Generate(request, timeout=900)
                obeyed += sum(field.obeyed for field in response.heard)
                seconds.append(response.compute_s)
                sound, _ = soundfile.read(io.BytesIO(response.inline_audio))
                exact.setdefault(seed, sound)
                apart.append(float(np.std(sound - exact[seed]) / np.std(exact[seed])))
            told = f"{statistics.median(seconds):.2f} s a row, {statistics.median(apart):.3f} of the spread apart"
            print(f"{name:9} {obeyed} of {len(rows)} rows at the tempo asked for; {told}")


if __name__ == "__main__":
    main()

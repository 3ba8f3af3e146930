"""How many tries it takes until tempo, or tempo and key, are heard as asked: `tries.py HOST:PORT MODEL [--best-of N]`.

Of a running inference service that knows an analysis service, with the model of `make demo`; from the repository's
root: `services/inference/.venv/bin/python tests/bench/inference/tries.py 127.0.0.1:7107 demo`. Each row is a genre at
a tempo that the model was trained on; what the first n tries reach follows from the figures of each.
"""

import argparse
import sys
import time
from itertools import product

import grpc

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1 import inference_pb2_grpc

GENRES = ("rock", "jazz", "pop", "house")
TEMPI_BPM = (80, 100, 125, 150)
KEYS = ("C major", "A minor", "D minor", "G major")
SECONDS = 4.096  # the window of the demo's model
STEPS, GUIDANCE = 50, 3  # as the demo asks for


def tries_of(
    inference: inference_pb2_grpc.InferenceServiceStub, model: str, most: int, keys: tuple[str, ...]
) -> list[int]:
    """Of each row the number of the try that was as asked; 0 = none was."""
    found = []
    for row, (genre, tempo_bpm) in enumerate(product(GENRES, TEMPI_BPM)):
        request = pb.GenerateRequest(
            prompt=f"A {genre} song",
            model=model,
            steps=STEPS,
            guidance_scale=GUIDANCE,
            seconds_total=SECONDS,
            seed=row,
            music=pb.MusicFields(tempo_bpm=tempo_bpm, key=keys[row % len(keys)] if keys else ""),
            best_of=most,
        )
        tries = inference.Generate(request, timeout=900).tries
        last = [one for one in tries[-1].heard if one.HasField("obeyed")]
        found.append(len(tries) if last and all(one.obeyed for one in last) else 0)
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("address")
    arguments.add_argument("model")
    arguments.add_argument("--best-of", type=int, default=8)
    given = arguments.parse_args()
    with grpc.insecure_channel(given.address) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        for what, keys in (("tempo", ()), ("tempo and key", KEYS)):
            began = time.monotonic()
            numbers = tries_of(inference, given.model, given.best_of, keys)
            reached = [sum(0 < number <= most for number in numbers) for most in range(1, given.best_of + 1)]
            made = sum(number or given.best_of for number in numbers)
            print(f"{what}: {len(numbers)} rows, as asked within 1, 2, … {given.best_of} tries: {reached}")
            print(f"  {made} tries, {(time.monotonic() - began) / made:.2f} s each", file=sys.stderr)


if __name__ == "__main__":
    main()

"""Libraries that find the nearest of many vectors, held against comparing all: what a query takes, and finds.

    uv run --no-project --with numpy --with usearch==2.26.6 --with faiss-cpu==1.15.1 tests/bench/vector_indexes.py

draws 100,000 vectors of 512 numbers and prints, for 40 queries of the 100 nearest, the 50th and 95th percentile in
milliseconds, the share of the nearest that was found, and seconds to build an index.
"""

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

COUNT, DIMENSIONS, NEAREST = 100_000, 512, 100
QUERIES: Final = 40
BLOCK: Final = 4096
Floats = NDArray[np.float32]


def drawn(count: int, seed: int) -> Floats:
    """Random vectors (count, DIMENSIONS) of length 1."""
    found = np.random.default_rng(seed).standard_normal((count, DIMENSIONS), dtype=np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def best(scores: Floats) -> list[int]:
    """Places of the highest, the highest first."""
    places = np.argpartition(-scores, NEAREST)[:NEAREST]
    return [int(place) for place in places[np.argsort(-scores[places])]]


def converted(stored: NDArray[Any]) -> Callable[[Floats], list[int]]:
    """Compares all, made float32 block by block."""

    def find(query: Floats) -> list[int]:
        scores = np.empty(len(stored), np.float32)
        for first in range(0, len(stored), BLOCK):
            scores[first : first + BLOCK] = stored[first : first + BLOCK].astype(np.float32) @ query
        return best(scores)

    return find


def main() -> None:
    """Prints a line for each."""
    vectors, queries = drawn(COUNT, 0), drawn(QUERIES, 1)
    right = [set(best(vectors @ query)) for query in queries]

    def tell(name: str, find: Callable[[Floats], Any], built_s: float = 0.0) -> None:
        find(queries[0])
        took, found = list[float](), list[float]()
        for query, nearest in zip(queries, right, strict=True):
            began = time.perf_counter()
            places = find(query)
            took.append(1000 * (time.perf_counter() - began))
            found.append(len({int(place) for place in places} & nearest) / NEAREST)
        p50, p95 = np.percentile(took, 50), np.percentile(took, 95)
        print(f"{name:28} p50 {p50:6.1f} ms  p95 {p95:6.1f} ms  found {np.mean(found):6.1%}  built in {built_s:.0f} s")

    half = vectors.astype(np.float16)
    scale = 127 / np.abs(vectors).max()
    tell("numpy float32", lambda query: best(vectors @ query))
    tell("numpy float16", converted(half))
    tell("numpy int8", converted(np.round(vectors * scale).astype(np.int8)))

    usearch = import_module("usearch.index")
    for name, stored in (("float32", vectors), ("float16", half)):
        tell(f"usearch exact {name}", lambda query, stored=stored: usearch.search(
            stored, query.astype(stored.dtype), NEAREST, usearch.MetricKind.IP, exact=True).keys)  # fmt: skip

    faiss = import_module("faiss")
    flat = faiss.IndexFlatIP(DIMENSIONS)
    kinds = {"fp16": faiss.ScalarQuantizer.QT_fp16, "8 bit": faiss.ScalarQuantizer.QT_8bit}
    scalar = {name: faiss.IndexScalarQuantizer(DIMENSIONS, kind, faiss.METRIC_INNER_PRODUCT)
              for name, kind in kinds.items()}  # fmt: skip
    for name, index in {"flat float32": flat, **scalar}.items():
        index.train(vectors)
        index.add(vectors)
        tell(f"faiss {name}", lambda query, index=index: index.search(query[None], NEAREST)[1][0])

    began = time.perf_counter()
    graph = usearch.Index(ndim=DIMENSIONS, metric="ip", dtype="f16")
    graph.add(np.arange(COUNT), vectors)
    tell("usearch HNSW float16", lambda query: graph.search(query, NEAREST).keys, time.perf_counter() - began)


if __name__ == "__main__":
    main()

"""What a million clips and 1,000 generated minutes cost, on paper: measured ratios times list prices.

    tests/.venv/bin/python -m tests.bench.cost [--with FILE.yaml]

The inputs, each with its source, are in tests/bench/cost.yaml: change prices and ratios there, or in a copy. Printed
are the tables of docs/cost.md, in Markdown. What needs a GPU was not measured: those rows are bounds from public
figures and from operations counted, and say so.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

INPUTS: Final = Path(__file__).with_suffix(".yaml")
MILLION: Final = 1_000_000
GENERATED_S: Final = 60_000.0  # 1,000 minutes

Inputs = dict[str, Any]
"""The YAML document."""


def dollars(amount: float) -> str:
    """Two digits that count."""
    return f"{amount:,.0f}" if amount >= 10 else f"{amount:.2g}"


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def head(*cells: object) -> Iterator[str]:
    yield row(*cells)
    yield "|" + "---|" * len(cells)


def core_hour(machine: dict[str, Any], busy: float) -> float:
    """Dollars for an hour of one core at work, with its share of the time in which nothing is done."""
    return float(machine["dollars"] / machine["cores"] / busy)


def clips(inputs: Inputs) -> Iterator[str]:
    """A million clips from MIDI files, on CPUs."""
    machines, busy = inputs["prices"]["cpu"], inputs["busy"]
    yield from head("a million clips", "core hours", *(f"{one['machine']}, $" for one in machines), "ratio from")
    for way in inputs["data"]:
        hours = MILLION / way["clips_per_minute"] * way["cpu_s_per_minute"] / 3600
        costs = (dollars(hours * core_hour(one, busy)) for one in machines)
        yield row(way["what"], f"{hours:,.0f}", *costs, way["source"])


def store(inputs: Inputs) -> Iterator[str]:
    """What they occupy, and the requests of writing them."""
    kept, price = inputs["kept"], inputs["prices"]["store"]
    clips_per_minute = inputs["data"][-1]["clips_per_minute"]
    seconds = MILLION / clips_per_minute * 60
    songs = seconds / 60 / inputs["minutes_per_song"]
    sizes = {
        "the clips": MILLION * kept["clip_s"] * kept["clip"] / 1e6,
        "the mixes they were cut from": seconds * kept["mix"] / 1e6,
        "the stems (`--mix-only` keeps none)": seconds * kept["stem"] * kept["stems_per_song"] / 1e6,
    }
    yield from head("kept", "GB", "$ a month")
    for what, gigabytes in sizes.items():
        yield row(what, f"{gigabytes:,.0f}", dollars(gigabytes * price["gigabyte_month"]))
    writes = songs * kept["objects_per_song"]
    yield row(f"{writes / 1e6:.1f} million writes, once", "", dollars(writes / 1000 * price["thousand_writes"]))


def spread(low: float, high: float, unit: str = "") -> str:
    return f"{dollars(low)} to {dollars(high)}{unit}"


def gpus(inputs: Inputs) -> Iterator[str]:
    """Encoding, training and generating, on GPUs that were not measured."""
    encoding, bounds, busy = inputs["encoding"], inputs["bounds"], inputs["busy"]
    train = bounds["training"]
    low, high = bounds["utilisation"]
    least, most = (
        encoding["cpu_s_per_clip"] * rate / 1000 for rate in encoding["gigaflop_per_cpu_s"]
    )  # teraflop a clip
    flop = float(train["parameters"]) * train["latents"] * train["flop_per_parameter_and_latent"] / 1e12
    yield from head(
        "GPU", "$ an hour", "encode a million clips, hours; $", f"train on {train['clips']:,} clips, hours; $"
    )
    for gpu in inputs["prices"]["gpu"]:
        rate = gpu["teraflops"]

        def cell(from_h: float, to_h: float, hourly: float = gpu["dollars"] / busy) -> str:
            return f"{spread(from_h, to_h)}; {spread(from_h * hourly, to_h * hourly)}"

        encoded = (MILLION * least / rate / high / 3600, MILLION * most / rate / low / 3600)
        trained = (train["clips"] * flop / rate / high / 3600, train["clips"] * flop / rate / low / 3600)
        yield row(f"{gpu['machine']} ({gpu['gpu']})", gpu["dollars"], cell(*encoded), cell(*trained))


def generated(inputs: Inputs) -> Iterator[str]:
    """1,000 minutes of audio."""
    yield from head("1,000 generated minutes", "on", "GPU hours", "$", "figure from")
    for one in inputs["bounds"]["generation"]:
        hours = GENERATED_S / one["realtime"] / 3600
        for gpu in inputs["prices"]["gpu"]:
            if gpu["gpu"] == one["gpu"]:
                cost = dollars(hours * gpu["dollars"] / inputs["busy"])
                yield row(one["model"], f"{gpu['machine']} ({gpu['gpu']})", f"{hours:.2g}", cost, one["source"])


def tables(inputs: Inputs) -> str:
    """All tables, in the order of docs/cost.md."""
    return "\n\n".join("\n".join(make(inputs)) for make in (clips, store, gpus, generated))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--with", dest="inputs", type=Path, default=INPUTS, metavar="FILE", help="other inputs")
    print(tables(yaml.safe_load(parser.parse_args().inputs.read_text())))


if __name__ == "__main__":
    main()

"""Figures as the report writes them."""

from luthier.evaluation.v1 import evaluation_pb2 as pb


def number(value: float | None, unit: str, *, signed: bool = False) -> str:
    """`62.5 %` for shares, `−14.2 LUFS`, else two decimals and the unit; a dash for None. Spaces do not break."""
    if value is None:
        return "–"
    sign = "+" if signed else ""
    digits = 1 if unit in ("share", "LUFS") else 2
    text = f"{100 * value:{sign}.1f} %" if unit == "share" else f"{value:{sign}.{digits}f} {unit}".rstrip()
    return text.replace("-", "−").replace(" ", "\N{NO-BREAK SPACE}")


def with_interval(score: pb.Score, unit: str, *, signed: bool = False) -> str:
    """`62.5 % (30.0 % to 90.0 %)`."""
    value, low, high = (number(part, unit, signed=signed) for part in (score.value, score.low, score.high))
    return f"{value} ({low} to {high})" if score.HasField("low") else value


def rows(count: int) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} row" if count == 1 else f"{count} rows"

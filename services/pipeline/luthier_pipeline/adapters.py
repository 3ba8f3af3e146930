"""Low-rank adapters on the command line: what `train` asks for, and how `models` and `status` name them."""

from typing import Final

from luthier.common.v1.common_pb2 import ADAPTER_KIND_DORA, ADAPTER_KIND_LORA
from luthier.inference.v1.inference_pb2 import Model
from luthier.training.v1.training_pb2 import Adapter
from luthier_pipeline.console import UsageError

KINDS: Final = {"lora": ADAPTER_KIND_LORA, "dora": ADAPTER_KIND_DORA}
NAMES: Final = {ADAPTER_KIND_LORA: "LoRA", ADAPTER_KIND_DORA: "DoRA"}


def adapter_of(kind: str, rank: int | None, alpha: float | None, dropout: float | None, targets: str) -> Adapter | None:
    """The adapter that the options ask for; None when they ask for none."""
    further = {"rank": rank, "alpha": alpha, "dropout": dropout, "targets": targets or None}
    if not kind:
        if given := [name for name, value in further.items() if value is not None]:
            raise UsageError(f"--adapter-{given[0]} is of an adapter: --adapter lora or --adapter dora")
        return None
    if kind not in KINDS:
        raise UsageError(f"--adapter must be one of {', '.join(KINDS)}, got {kind!r}")
    groups = [target.strip() for target in targets.split(",") if target.strip()]
    return Adapter(kind=KINDS[kind], rank=rank, alpha=alpha, dropout=dropout, targets=groups)


def adapters_of(model: Model) -> str:
    """The adapters of a version on one line, e.g. `DoRA 16, changes 2.1 %`: kind, rank, and how much it
    adds to the weights by their size; empty for none."""
    return " + ".join(
        f"{NAMES.get(adapter.kind, 'adapter')} {adapter.rank}, changes {100 * adapter.relative_change:.2g} %"
        for adapter in model.adapters
    )

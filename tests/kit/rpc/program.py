"""A service as its `__main__.py` starts it: `python -m tests.kit.rpc.program`, for tests of `main`.

`TEST_FAULT` lets `build` fail (the name of an exception), or with `prepare` what runs before SERVING.
"""

import builtins
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import luthier_kit.store._store
from luthier_kit import rpc
from luthier_kit.rpc import Service, ServiceSettings, Unavailable, main, setting
from luthier_kit.store import Endpoint, StoreSettings, open_store
from tests.kit.rpc.serving import Analysis, service


@dataclass(frozen=True)
class ProgramSettings(ServiceSettings, StoreSettings):
    font: Path | None = setting("TEST_FONT", default=None, path="file")
    api_key: str = setting("TEST_API_KEY", default="", secret=True)


def build(settings: ProgramSettings) -> Service:
    setattr(luthier_kit.store._store, "Endpoint", partial(Endpoint, retry_budget_s=0.5))  # noqa: B010
    fault = os.environ.get("TEST_FAULT", "")
    if fault and fault != "prepare":
        raise (getattr(rpc, fault, None) or getattr(builtins, fault))("it must not start")
    open_store(settings)
    return service(Analysis(work_s=0.5), prepare=not_ready if fault else None)


def not_ready() -> None:
    raise Unavailable("the models are not there")


if __name__ == "__main__":
    sys.exit(main(ProgramSettings, build))

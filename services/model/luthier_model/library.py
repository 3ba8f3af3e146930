"""The classes of stable-audio-tools that the model code builds on, imported without torch's compiler.

As it is imported, the library sets options of the compiler, among them one that hides its errors, and asks for a
compiled form of an attention over sliding windows, which no configuration accepted here has. It does without where the
compiler cannot be imported; the compiler would be 40 MiB and a CPU second of each start.
"""

import sys
from typing import Final

_COMPILER: Final = "torch._dynamo"
_loaded = _COMPILER in sys.modules
if not _loaded:
    sys.modules[_COMPILER] = None  # type: ignore[assignment]  # Python's own way to say: not to be imported
try:
    from stable_audio_tools.models.blocks import SnakeBeta
    from stable_audio_tools.models.conditioners import Conditioner, IntConditioner, T5Conditioner
    from stable_audio_tools.models.diffusion import (
        ConditionedDiffusionModelWrapper,
        UNetCFG1DWrapper,
        create_diffusion_cond_from_config,
    )
    from stable_audio_tools.models.transformer import ScaledSinusoidalEmbedding
finally:
    if not _loaded:
        del sys.modules[_COMPILER]

__all__ = (
    "ConditionedDiffusionModelWrapper",
    "Conditioner",
    "IntConditioner",
    "ScaledSinusoidalEmbedding",
    "SnakeBeta",
    "T5Conditioner",
    "UNetCFG1DWrapper",
    "create_diffusion_cond_from_config",
)

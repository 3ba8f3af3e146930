"""Layers of the Descript Audio Codec, as inference builds Stable Audio 1's autoencoder, against the package's."""

import pytest
import torch
from dac.model import dac

from luthier_model import descript

SIZES = {
    "encoder": {"d_model": 4, "strides": [4, 8], "d_latent": 16},
    "decoder": {"input_channel": 8, "channels": 16, "rates": [8, 4], "d_out": 2},
}


@pytest.mark.parametrize("side", SIZES)
def test_layers_and_numbers_are_the_packages(side: str) -> None:
    kind, options = side.capitalize(), SIZES[side]
    theirs, ours = getattr(dac, kind)(**options), getattr(descript, kind)(**options)
    given = torch.randn(2, *((1, 256) if side == "encoder" else (8, 16)), generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    for parameter in theirs.parameters():  # each alpha is 1 and each bias small at first
        parameter.data += 0.2 * torch.rand(parameter.shape, generator=generator)

    ours.load_state_dict(theirs.state_dict(), strict=True)

    torch.testing.assert_close(ours(given), theirs(given))

"""Winograd's convolutions, held against torch's own in double precision."""

import pytest
import torch
from torch.nn import functional

from luthier_evaluation.embedders.winograd import Convolution


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 4), (7, 13), (64, 49), (33, 6)])
def test_it_is_the_convolution_of_the_whole_image(height: int, width: int, pool: bool) -> None:
    draw = torch.Generator().manual_seed(height)
    images = torch.randn(3, height, width, 8, generator=draw)
    weight, bias = torch.randn(16, 8, 3, 3, generator=draw) / 72**0.5, torch.randn(16, generator=draw)
    pooled = pool and min(height, width) > 1

    found = Convolution(weight, bias)(images, pool=pooled)

    expected = functional.conv2d(images.double().permute(0, 3, 1, 2), weight.double(), bias.double(), padding=1).relu()
    expected = functional.max_pool2d(expected, 2) if pooled else expected
    assert torch.allclose(found.double(), expected.permute(0, 2, 3, 1), atol=1e-4)


def test_what_is_below_zero_stays_where_it_is_not_rectified() -> None:
    images = torch.ones(1, 8, 8, 4)

    found = Convolution(-torch.ones(2, 4, 3, 3), torch.zeros(2))(images, rectify=False)

    assert found[0, 4, 4].tolist() == pytest.approx([-36, -36])  # 4 channels of 9 places
    assert found[0, 0, 0].tolist() == pytest.approx([-16, -16])  # a corner has 4 places

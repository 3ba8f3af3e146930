"""The noise levels, against k-diffusion's."""

import k_diffusion
import pytest
import torch

from luthier_model.schedules import polyexponential


@pytest.mark.parametrize(("steps", "rho"), [(1, 1.0), (2, 1.0), (100, 1.0), (25, 2.5)])
def test_levels_are_those_of_k_diffusion(steps, rho):
    ours = torch.tensor(polyexponential(steps, 0.3, 500, rho))
    theirs = k_diffusion.sampling.get_sigmas_polyexponential(steps, 0.3, 500, rho)

    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "wrong", [(0, 0.3, 500), (10, 0, 500), (10, 500, 0.3), (10, 0.3, float("inf")), (1, float("nan"), 1)]
)
def test_levels_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="sigma_min"):
        polyexponential(*wrong)

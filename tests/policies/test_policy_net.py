"""The policies' networks: the published sizes, FiLM and residuals by hand, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from paradigms.policies.net import MLP, Residual, Sinusoid, UNet1d


def size(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("widths", "embed", "parameters"), [((256, 512, 1024), 256, 65_783_298), ((64, 128, 256), 64, 4_231_554)]
)
def test_the_unet_has_the_published_size(widths: tuple[int, ...], embed: int, parameters: int) -> None:
    """Counted on diffusion_policy's ConditionalUnet1D: 2 actions, 2 x 20 observations, kernel 5, scale predicted."""
    with torch.device("meta"):
        assert size(UNet1d(2, 40, widths, embed)) == parameters


def test_a_residual_is_film_between_two_blocks_beside_a_skip() -> None:
    torch.manual_seed(0)
    net = Residual(6, 16, 5, 3).double()
    x, c = torch.randn(2, 6, 8).double(), torch.randn(2, 5).double()

    def mish(y: Tensor) -> Tensor:
        return y * torch.tanh(torch.log1p(y.exp()))

    def block(y: Tensor, part: torch.nn.Sequential) -> Tensor:
        w, b = part[0].weight, part[0].bias
        y = functional.pad(y, (1, 1))
        y = sum(torch.einsum("oi,bit->bot", w[..., k], y[..., k : k + 8]) for k in range(3)) + b[:, None]
        g = y.reshape(2, 8, -1)
        g = (g - g.mean(-1, keepdim=True)) / (g.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return mish(g.view_as(y) * part[1].weight[:, None] + part[1].bias[:, None])

    film = mish(c) @ net.film[1].weight.T + net.film[1].bias
    scale, shift = film[:, :16, None], film[:, 16:, None]
    skip = torch.einsum("oi,bit->bot", net.skip.weight[..., 0], x) + net.skip.bias[:, None]
    torch.testing.assert_close(net(x, c), block(scale * block(x, net.first) + shift, net.second) + skip)


def test_the_sinusoid_has_frequencies_from_1_to_a_ten_thousandth() -> None:
    y = Sinusoid(8)(torch.tensor([0, 3]))
    w = torch.tensor([1.0, 10 ** (-4 / 3), 10 ** (-8 / 3), 1e-4])
    torch.testing.assert_close(y, torch.stack([torch.cat([(t * w).sin(), (t * w).cos()]) for t in (0, 3)]))


@pytest.mark.parametrize(
    "net", [UNet1d(2, 6, (8, 16), 8), MLP(2, 6, 16, width=16, depth=1, embed=8)], ids=["unet", "mlp"]
)
def test_rows_do_not_meet_and_a_time_for_all_is_a_time_for_each(net: torch.nn.Module) -> None:
    x, c = torch.randn(3, 16, 2), torch.randn(3, 6)
    t = torch.tensor([5, 50, 99])
    together = net(x, t, global_cond=c)
    for n in range(3):
        alone = net(x[n : n + 1], int(t[n]), global_cond=c[n : n + 1])
        torch.testing.assert_close(together[n : n + 1], alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(together, net(x, t, global_cond=c + 1))
    assert not torch.allclose(together, net(x, t - 5, global_cond=c))
    with pytest.raises(ValueError, match="global_cond"):
        net(x, t, local_cond=x, global_cond=c)


def test_widths_that_groups_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        UNet1d(2, 6, (8, 12))

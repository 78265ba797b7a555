"""Random numbers against the published words, and as numbers of their laws."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from bench.kernels import philox

# Random123's tests/kat_vectors, philox4x32: rounds, counter, key, words
VECTORS = [
    (7, [0] * 4, [0] * 2, [0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48]),
    (10, [0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    (10, [0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        10,
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("rounds", "counter", "key", "expected"), VECTORS)
def test_philox_gives_the_published_words(rounds: int, counter: list[int], key: list[int], expected: list[int]) -> None:
    low, high = torch.tensor(key)
    words = philox.philox(tuple(torch.tensor(counter)), (low, high), rounds)
    assert [int(word) for word in words] == expected, [hex(int(word)) for word in words]


def test_normals_are_normal() -> None:
    """Bounds are five standard errors of n independent draws, for p-values the chance of as many."""
    n = 2**20
    draws = philox.normals(torch.tensor([7]), n)[0].double()
    moments = {"mean": (0, 1), "variance": (1, 2), "skewness": (0, 6), "kurtosis": (0, 24)}  # value, n * variance
    found = dict(zip(moments, (draws.mean(), draws.var(), stats.skew(draws), stats.kurtosis(draws)), strict=True))
    for name, (value, spread) in moments.items():
        assert abs(found[name] - value) < 5 * (spread / n) ** 0.5, (name, found[name])
    assert stats.kstest(draws, "norm").pvalue > 6e-7
    pairs = torch.corrcoef(draws.view(-1, 4).T) - torch.eye(4)
    assert pairs.abs().max() < 5 / (n / 4) ** 0.5, pairs
    assert draws.abs().max() < (2 * 33 * 0.6932) ** 0.5


def test_normals_are_accurate() -> None:
    """Against Box-Muller in float64 on the same bits, in ulps of the radius."""
    words = torch.randint(0, 2**32, (2, 2**18), generator=torch.Generator().manual_seed(3))
    words = torch.cat([words, torch.tensor([[0, 2**32 - 1, 0, 2**32 - 1], [0, 2**32 - 1, 2**31, 2**30]])], 1)
    u = ((words[0] >> 8).double() * 2.0**-24 + ((words[0] & 255).double() + 0.5) * 2.0**-32).float().double()
    radius, angle = (-2 * u.log()).sqrt(), words[1].double() * (2 * torch.pi / 2**32)
    for found, exact in zip(philox.box_muller(*words), (radius * angle.cos(), radius * angle.sin()), strict=True):
        # one for each of log, root, sine or cosine and product; the angle's last 6 of 30 bits are dropped
        ulps = ((found.double() - exact).abs() / (radius * 2.0**-23).clamp_min(1e-30)).max().item()
        assert ulps < 4, ulps


def test_uniforms_are_uniform_and_streams_independent() -> None:
    n = 2**18
    draws = torch.cat([philox.uniforms(torch.tensor([5, -5]), n, stream) for stream in (0, 1)]).double()
    assert draws.min() >= 0 and draws.max() < 1
    assert all(stats.kstest(row, "uniform").pvalue > 6e-7 for row in draws)
    correlations = torch.corrcoef(draws) - torch.eye(4)
    assert correlations.abs().max() < 5 / n**0.5, correlations
    assert torch.equal(philox.uniforms(torch.tensor([5]), 7), philox.uniforms(torch.tensor([1, 5]), 9)[1:, :7])

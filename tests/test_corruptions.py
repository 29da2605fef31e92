import pytest
import torch

from aesearch.corruptions import GaussianNoise, Masking, SaltAndPepper
from aesearch.errors import UserError


def corrupted(corruption, channels=3):
    x = torch.full((50, channels, 20, 20), 0.4)
    return x, corruption.corrupt(x, torch.Generator().manual_seed(0))


def test_gaussian_noise_has_its_standard_deviation():
    x, noisy = corrupted(GaussianNoise(0.25))
    assert (noisy - x).mean().item() == pytest.approx(0, abs=0.005)
    assert (noisy - x).std().item() == pytest.approx(0.25, rel=0.01)


def test_masking_zeroes_its_share_of_pixels_in_all_channels():
    x, masked = corrupted(Masking(0.3))
    gone = masked == 0
    assert gone.float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert torch.equal(gone.all(1), gone.any(1))
    assert torch.equal(masked[~gone], x[~gone])


def test_salt_and_pepper_come_in_equal_parts():
    x, spoiled = corrupted(SaltAndPepper(0.2))
    assert (spoiled == 0).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert (spoiled == 1).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert (spoiled == x).float().mean().item() == pytest.approx(0.8, abs=0.01)


def test_the_generator_decides():
    x = torch.rand(4, 1, 6, 6)
    for corruption in (GaussianNoise(), Masking(), SaltAndPepper()):
        one, same, other = (corruption.corrupt(x, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


@pytest.mark.parametrize("make", [lambda: Masking(1.0), lambda: SaltAndPepper(0.0), lambda: GaussianNoise(-1.0)])
def test_impossible_corruptions_are_refused(make):
    with pytest.raises(UserError, match="must be above 0"):
        make()

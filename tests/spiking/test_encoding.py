"""Poisson coding (Algorithm 1): each pixel fires with its own probability at every step."""

from __future__ import annotations

import torch

from idsnn_cli.architecture import Neuron
from idsnn_cli.spiking import LIF, PoissonEncoder, seed_encoders


def test_spikes_have_the_pixels_probabilities() -> None:
    levels = torch.tensor([0.0, 0.1, 0.5, 0.93, 1.0])
    images = levels.view(1, 1, 1, 5).expand(2, 3, 400, 5)
    spikes = PoissonEncoder(6)(images)
    assert spikes.shape == (6, 2, 3, 400, 5)
    assert spikes.dtype == images.dtype
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    rates = spikes.mean((0, 1, 2, 3))
    assert rates[0] == 0
    assert rates[-1] == 1
    # 14,400 draws: four standard deviations are below 0.017.
    torch.testing.assert_close(rates, levels, rtol=0, atol=0.017)


def test_steps_and_images_are_drawn_apart() -> None:
    spikes = PoissonEncoder(4)(torch.full((3, 1, 8, 8), 0.5)).flatten(0, 1)
    assert len({tuple(map_.flatten().tolist()) for map_ in spikes}) == 12


def test_a_seed_repeats_the_draws_and_leaves_torchs_generator_alone() -> None:
    images = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    encoder = PoissonEncoder(4)
    state = torch.get_rng_state()
    encoder.seed(7)
    first, second = encoder(images), encoder(images)
    encoder.seed(7)
    assert torch.equal(encoder(images), first)
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    encoder.seed(8)
    assert not torch.equal(encoder(images), first)


def test_every_encoder_inside_a_model_is_seeded() -> None:
    model = torch.nn.Sequential(PoissonEncoder(2), torch.nn.Sequential(PoissonEncoder(3)))
    images = torch.full((1, 1, 5, 5), 0.5)
    seed_encoders(model, 3)
    alone = PoissonEncoder(3)
    alone.seed(3)
    assert torch.equal(model.get_submodule("1.0")(images), alone(images))
    seed_encoders(LIF(Neuron(), 2), 3)  # nothing to seed


def test_the_same_spikes_in_double_precision() -> None:
    images = torch.rand((2, 1, 6, 6), generator=torch.Generator().manual_seed(1))
    assert torch.equal(PoissonEncoder(3)(images).double(), PoissonEncoder(3)(images.double()))


def test_neither_batches_nor_shards_change_an_images_spikes() -> None:
    images = torch.rand((9, 3, 5, 7), generator=torch.Generator().manual_seed(2))
    encoder = PoissonEncoder(4)
    encoder.seed(1)
    whole = encoder(images)
    encoder.seed(1)
    assert torch.equal(torch.cat([encoder(images[:2]), encoder(images[2:7]), encoder(images[7:])], 1), whole)
    encoder.seed(1, first_image=6)
    assert torch.equal(torch.cat([encoder(images[6:8]), encoder(images[8:])], 1), whole[:, 6:])
    encoder.seed(1, first_image=9)
    assert encoder(images[9:]).shape == (4, 0, 3, 5, 7)

"""Augmentation of recordings: all frames alike, and EventDrop, whose thinning is the binomial distribution's."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import binom

from idsnn_cli.data import TrainBatches, apply, draw
from idsnn_cli.data.event_drop import AREA, EVENTS, NOTHING, TIME, EventDraws, draw_drops, drop_events, thin
from idsnn_cli.data.splits import Split
from idsnn_cli.recipe.schema import Augment

FRAMES = torch.randint(0, 9, (24, 5, 2, 12, 10), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(operation: int, share: float, begin: tuple[float, float, float] = (0, 0, 0), count: int = 1) -> EventDraws:
    wide = (torch.full((count,), operation), torch.full((count,), share))
    return EventDraws(*wide, torch.tensor(begin).expand(count, 3), torch.arange(count))


def test_each_frame_is_augmented_as_an_image_of_the_same_draws() -> None:
    augment = Augment(crop=3, flip=True, cutout=4)
    found = draw(24, augment, seeded(), (12, 10))
    together = apply(FRAMES, found, (0.25, 0.5))
    assert together.shape == FRAMES.shape
    for step in range(5):
        assert torch.equal(together[:, step], apply(FRAMES[:, step], found, (0.25, 0.5)))


def test_eventdrop_leaves_other_draws_as_they_were() -> None:
    plain, dropped = (draw(24, Augment(eventdrop=each), seeded(4), (12, 10)) for each in (False, True))
    assert plain.drops is None
    assert dropped.drops is not None
    for name in ("top", "left", "flip"):
        assert torch.equal(getattr(plain, name), getattr(dropped, name))


def test_what_each_operation_takes_is_worked_out() -> None:
    ones = torch.ones(1, 5, 1, 4, 10, dtype=torch.uint8)
    assert torch.equal(drop_events(ones, draws(NOTHING, 0.5)), ones)
    # Middles of five parts of the time are 0.1, 0.3, ...: those from 0.25 to 0.65 are 0.3 and 0.5.
    of_time = drop_events(ones, draws(TIME, 0.4, (0.25, 0, 0)))
    assert of_time.sum((2, 3, 4))[0].tolist() == [40, 0, 0, 40, 40]
    # Rows with middles 0.125, 0.375, ...; columns with 0.05, 0.15, ...
    of_area = drop_events(ones, draws(AREA, 0.3, (0, 0.3, 0.5)))
    wanted = torch.ones(4, 10, dtype=torch.uint8)
    wanted[1, 5:8] = 0
    assert torch.equal(of_area[0], wanted.expand(5, 1, 4, 10))


def test_thinning_is_the_binomial_quantile() -> None:
    counts = torch.randint(0, 30, (4000,), generator=seeded(), dtype=torch.uint8)
    uniform = torch.rand(4000, generator=seeded(1), dtype=torch.float64)
    for kept in (0.1, 0.5, 0.9):
        found = thin(counts, torch.tensor(kept, dtype=torch.float64), uniform)
        assert np.array_equal(found.numpy(), binom.ppf(uniform.numpy(), counts.numpy(), kept).clip(0))
    full = torch.full((3,), 255, dtype=torch.uint8)
    assert thin(full, torch.tensor(0.9).double(), torch.tensor([0.0, 0.5, 1 - 1e-12]).double()).tolist() == [
        *(
            int(binom.ppf(1e-300, 255, 0.9)),
            int(binom.ppf(0.5, 255, 0.9)),
            254 if binom.cdf(253, 255, 0.9) > 1 else 255,
        ),
    ]


def test_events_are_lost_by_the_recordings_own_draws() -> None:
    found = draws(EVENTS, 0.3, count=24)
    left = drop_events(FRAMES, found)
    assert bool((left <= FRAMES).all())
    share = float(left.sum() / FRAMES.sum())
    assert abs(share - 0.7) < 0.01  # 57,000 events: five standard deviations
    for rows in (slice(7, 9), torch.tensor([20, 3])):
        assert torch.equal(drop_events(FRAMES[rows], found[rows]), left[rows])


def test_operations_and_shares_are_drawn_evenly() -> None:
    found = draw_drops(4000, seeded(2))
    counts = torch.bincount(found.operation, minlength=4)
    assert int((counts - 1000).abs().max()) < 140
    areas, others = found.share[found.operation == AREA], found.share[found.operation != AREA]
    assert sorted({round(20 * share) for share in areas.tolist()}) == list(range(1, 7))
    assert sorted({round(10 * share) for share in others.tolist()}) == list(range(1, 10))


def test_processes_see_the_recordings_of_one() -> None:
    split = Split(FRAMES, torch.arange(24) % 3)
    augment = Augment(crop=2, flip=False, eventdrop=True)

    def batches(rank: int = 0, world: int = 1) -> list[torch.Tensor]:
        found = TrainBatches(
            split, batch_size=8, augment=augment, seed=5, device="cpu", fill=(0.0, 0.0), rank=rank, world=world
        )
        return [batch.images for batch in found.epoch(1)]

    shares = zip(batches(), batches(0, 3), batches(1, 3), batches(2, 3), strict=True)
    for whole, *parts in shares:
        assert whole.shape[1:] == (5, 2, 12, 10)
        assert torch.equal(whole, torch.cat(parts))

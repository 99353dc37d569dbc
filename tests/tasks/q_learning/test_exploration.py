"""Random actions: as often, as long and as allowed as asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from aibig.errors import UserError
from aibig.tasks.q_learning.exploration import MAX_DURATION, Exploration


def make(environments: int = 1, **settings: Any) -> Exploration:
    defaults = {"start": 1.0, "end": 0.1, "env_steps": 100, "schedule": "linear", "duration_exponent": 2.0}
    return Exploration(environments, 3, **{**defaults, **settings})


def test_epsilon_falls_as_asked() -> None:
    assert [make().epsilon(steps) for steps in (0, 50, 100, 900)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    falling = make(schedule="exponential")
    assert [falling.epsilon(steps) for steps in (0, 50, 900)] == pytest.approx([1.0, 0.1**0.5, 0.1])
    with pytest.raises(UserError, match="never reaches 0"):
        make(schedule="exponential", end=0.0)


def test_single_random_actions_are_as_frequent_as_epsilon_and_alike() -> None:
    explores, actions = make(30_000, duration_exponent=None).choose(0.3, None, torch.Generator().manual_seed(0))
    assert explores.float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert (actions.bincount(minlength=3) / len(actions)).tolist() == pytest.approx([1 / 3] * 3, abs=0.01)


def test_durations_are_those_of_the_zeta_distribution() -> None:
    count, generator = 50_000, torch.Generator().manual_seed(0)
    exploration = make(count)
    explores, first = exploration.choose(1.0, None, generator)
    assert explores.all()
    durations = torch.ones(count, dtype=torch.int64)
    for _ in range(4):
        lasts, actions = exploration.choose(0.0, None, generator)
        assert torch.equal(actions[lasts], first[lasts])
        durations += lasts
    weights = torch.arange(1.0, MAX_DURATION + 1).pow(-2)
    expected = weights[:4] / weights.sum()
    assert (durations.bincount(minlength=6)[1:5] / count).tolist() == pytest.approx(expected.tolist(), abs=0.006)


def test_a_lasting_action_ends_with_its_episode_and_where_it_is_not_allowed() -> None:
    generator = torch.Generator().manual_seed(0)
    exploration = make(3)
    exploration.lasting_actions, exploration.steps_left = torch.tensor([0, 1, 2]), torch.tensor([5, 5, 5])
    state = exploration.state_dict()
    exploration.end_of_episode([0])
    assert state["steps_left"].tolist() == [5, 5, 5]
    mask = torch.tensor([[True] * 3, [True] * 3, [True, True, False]])
    explores, actions = exploration.choose(0.0, mask, generator)
    assert explores.tolist() == [False, True, False] and actions[1] == 1
    assert exploration.steps_left.tolist() == [0, 4, 0]


def test_where_an_episode_has_ended_no_action_may_be_allowed() -> None:
    mask = torch.tensor([[False, False, False], [False, False, True], [True, False, False]])
    explores, actions = make(3).choose(1.0, mask, torch.Generator().manual_seed(0))
    assert explores.all() and actions[1:].tolist() == [2, 0]


def test_at_epsilon_1_a_lasting_action_that_is_forbidden_gives_way_to_another_random_one() -> None:
    exploration = make(2)
    exploration.lasting_actions, exploration.steps_left = torch.tensor([2, 2]), torch.tensor([5, 5])
    explores, actions = exploration.choose(
        1.0, torch.tensor([[True, True, False]] * 2), torch.Generator().manual_seed(0)
    )
    assert explores.all() and (actions < 2).all()


def test_forbidden_actions_are_never_begun() -> None:
    mask = torch.tensor([[False, True, False]]).expand(500, 3)
    for exponent in (None, 2.0):
        explores, actions = make(500, duration_exponent=exponent).choose(1.0, mask, torch.Generator().manual_seed(0))
        assert explores.all() and (actions == 1).all()


def test_it_goes_on_from_its_state() -> None:
    first, second = make(20), make(20)
    first.choose(1.0, None, torch.Generator().manual_seed(0))
    second.load_state_dict(first.state_dict())
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    for _ in range(5):
        choices, expected = (
            exploration.choose(0.2, None, generator)
            for exploration, generator in zip((second, first), generators, strict=True)
        )
        assert torch.equal(choices[0], expected[0]) and torch.equal(choices[1], expected[1])

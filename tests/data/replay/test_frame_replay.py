"""Frames stored once: a sample is what a plain list of whole transitions has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from aibig.data.replay.base import EnvStep, ReplaySpec
from aibig.data.replay.frame_replay import FrameReplayBuffer
from aibig.data.replay.replay import TransitionReplayBuffer
from aibig.errors import UserError

DISCOUNT = 0.9


class CountingFrames:
    """Environments whose frames count steps; each episode's first stack has frames that no step shows."""

    def __init__(self, count: int, stack: int) -> None:
        self.generator, self.count, self.stack, self.steps = np.random.default_rng(0), count, stack, 0
        self.observation = np.stack([self.first() for _ in range(count)])
        self.ended = np.zeros(count, bool)

    def frame(self) -> Any:
        self.steps += 1
        return np.full((2, 3), 0, np.uint8) + np.array([self.steps % 251, self.steps // 251, 7], np.uint8)

    def first(self) -> Any:
        older = [self.frame() + np.uint8(100) for _ in range(self.stack - 1)]
        return np.stack([*older, self.frame()]) if self.stack > 1 else self.frame()

    def step(self) -> dict[str, Any]:
        is_transition, observation = ~self.ended, self.observation
        self.ended = is_transition & (self.generator.random(self.count) < 0.2)
        terminated = self.ended & (self.generator.random(self.count) < 0.5)
        next_observation = observation.copy()
        for env in range(self.count):
            if not is_transition[env]:
                next_observation[env] = self.first()
            elif self.stack > 1:
                next_observation[env] = [*observation[env, 1:], self.frame()]
            else:
                next_observation[env] = self.frame()
        self.observation = next_observation
        step = {"observation": observation, "action": self.generator.integers(5, size=self.count)}
        step |= {"reward": np.where(is_transition, self.generator.normal(size=self.count), 0).astype(np.float32)}
        step |= {"next_observation": next_observation, "terminated": terminated, "truncated": self.ended & ~terminated}
        return step | {"is_transition": is_transition, "action_mask": self.generator.random((self.count, 5)) < 0.5}


def transition(steps: list[dict[str, Any]], time: int, env: int, n_step: int) -> tuple[Any, ...] | None:
    """The transition that starts with a step, written out; None if there is none, or it is not complete."""
    if not steps[time]["is_transition"][env] or time + n_step >= len(steps):
        return None
    reward, at = 0.0, time
    for number in range(n_step):
        at = time + number
        reward += DISCOUNT**number * float(steps[at]["reward"][env])
        if steps[at]["terminated"][env] or steps[at]["truncated"][env]:
            break
    discount = 0.0 if steps[at]["terminated"][env] else DISCOUNT ** (at - time + 1)
    first, last = steps[time], steps[at]
    return first["observation"][env], int(first["action"][env]), reward, last["next_observation"][env], discount


@pytest.mark.parametrize("priority_exponent", [0.0, 0.5])
@pytest.mark.parametrize(("count", "stack", "n_step"), [(1, 1, 1), (3, 4, 1), (2, 4, 3), (1, 2, 5), (4, 1, 3)])
def test_a_sample_is_what_happened(count: int, stack: int, n_step: int, priority_exponent: float) -> None:
    shape = (stack, 2, 3) if stack > 1 else (2, 3)
    spec = ReplaySpec(shape, 5, count, torch.uint8, stack, True, n_step, DISCOUNT, priority_exponent)
    slots = 40
    replay, envs, steps = FrameReplayBuffer(spec, capacity=slots * count + count - 1), CountingFrames(count, stack), []
    generator = torch.Generator().manual_seed(0)
    for time in range(100):
        steps.append(envs.step())
        replay.add(EnvStep(**steps[-1]))
        if time == 70:
            other = FrameReplayBuffer(spec, capacity=slots * count)
            other.load_state_dict(replay.state_dict())
            replay = other
        if time in (20, 45, 99):
            known = {}
            oldest = max(0, time + 1 - slots + stack - 1) if time >= slots else 0
            for at in range(oldest, time + 1):
                for env in range(count):
                    if (row := transition(steps, at, env, n_step)) is not None:
                        known[row[0].tobytes()] = (row, steps[at]["action_mask"][env])
            sampled = set()
            for _ in range(20):
                batch = replay.sample(64, generator)
                for row in range(64):
                    key = batch.observation[row].numpy().tobytes()
                    (_, action, reward, next_observation, discount), mask = known[key]
                    sampled.add(key)
                    assert batch.action[row] == action and batch.reward[row] == pytest.approx(reward, abs=1e-5)
                    assert batch.discount[row] == pytest.approx(discount)
                    assert np.array_equal(batch.next_observation[row].numpy(), next_observation)
                    assert np.array_equal(batch.action_mask[row].numpy(), mask)
            assert sampled == known.keys(), "each of them is sampled at some time"


def test_discarded_steps_are_never_sampled() -> None:
    spec = ReplaySpec((2, 3), 5, 2, torch.uint8, n_step=2)
    replay, envs = FrameReplayBuffer(spec, capacity=80), CountingFrames(2, 1)
    for _ in range(10):
        replay.add(EnvStep(**envs.step()))
    pending_frames = {replay._frames[index].numpy().tobytes() for index in (8 * 2, 9 * 2)}
    replay.discard_pending([0])
    for _ in range(5):
        replay.add(EnvStep(**envs.step()))
    batch = replay.sample(500, torch.Generator().manual_seed(0))
    assert not pending_frames & {frame.numpy().tobytes() for frame in batch.observation}


@pytest.mark.parametrize("priority_exponent", [0.0, 0.6])
def test_there_is_nothing_to_sample_while_all_steps_are_discarded(priority_exponent: float) -> None:
    spec = ReplaySpec((2, 3), 5, 1, torch.uint8, n_step=3, priority_exponent=priority_exponent)
    replay, envs = FrameReplayBuffer(spec, capacity=9), CountingFrames(1, 1)
    for _ in range(2):
        replay.add(EnvStep(**envs.step()))
    replay.discard_pending([0])
    lengths = []
    for _ in range(8):
        replay.add(EnvStep(**envs.step()))
        lengths.append(len(replay))
        if len(replay):
            batch = replay.sample(20, torch.Generator().manual_seed(0))
            assert batch.weight is None or batch.weight.isfinite().all()
    assert lengths[:3] == [0, 0, 0] and lengths[-1]


CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_frames_on_the_device_are_sampled_as_those_in_memory(device: str) -> None:
    spec = ReplaySpec((4, 2, 3), 5, 2, torch.uint8, 4, True, 3, DISCOUNT, device=device)
    replays, envs = (
        [FrameReplayBuffer(spec, capacity=60, on_device=on_device) for on_device in (False, True)],
        CountingFrames(2, 4),
    )
    for time in range(50):
        step = EnvStep(**envs.step())
        for replay in replays:
            replay.add(step)
        if time == 30:
            resumed = FrameReplayBuffer(spec, capacity=60, on_device=True)
            resumed.load_state_dict(replays[1].state_dict())
            replays[1] = resumed
    expected, batch = (replay.sample(64, torch.Generator().manual_seed(0)) for replay in replays)
    assert batch.observation.device.type == device
    for name, tensor in zip(expected._fields, expected, strict=True):
        if tensor is not None:
            assert torch.equal(getattr(batch, name).cpu(), tensor), name


def test_memory_is_what_the_formula_says() -> None:
    spec = ReplaySpec((4, 84, 84), 6, 4, torch.uint8, 4)
    replay = FrameReplayBuffer(spec, capacity=1_000)
    size = replay._frames.nbytes + sum(array.nbytes for array in replay._arrays().values())
    assert size <= 1_000 * (84 * 84 + 12) and 1_000_000 * (84 * 84 + 12) <= 7.5e9


def test_what_it_cannot_store_is_refused() -> None:
    with pytest.raises(UserError, match="take 'replay' for other observations"):
        FrameReplayBuffer(ReplaySpec((4,), 2))
    with pytest.raises(UserError, match="capacity 20 is too small for 4 environments; set 24 or more"):
        FrameReplayBuffer(ReplaySpec((4, 8, 8), 2, 4, torch.uint8, 4), capacity=20)


BUFFERS = (
    (FrameReplayBuffer, ReplaySpec((84, 84), 2, 1, torch.uint8)),
    (TransitionReplayBuffer, ReplaySpec((84,), 2)),
)


@pytest.mark.parametrize(("buffer", "spec"), BUFFERS)
@pytest.mark.parametrize("capacity", [10**15, 10**18])
def test_more_than_there_is_memory_is_refused(buffer: Any, spec: ReplaySpec, capacity: int) -> None:
    with pytest.raises(UserError, match=rf"capacity {capacity:,} takes [\d,.]+ GB, which are not there; set less"):
        buffer(spec, capacity=capacity)


@pytest.mark.parametrize(("buffer", "spec"), BUFFERS)
def test_the_state_of_another_capacity_is_refused(buffer: Any, spec: ReplaySpec) -> None:
    state = buffer(spec, capacity=50).state_dict()
    with pytest.raises(UserError, match=r"data\.capacity 40: the run began with 50"):
        buffer(spec, capacity=40).load_state_dict(state)

"""Q-learning beside Stable-Baselines3 and plain PyTorch: each measurement a fresh process, A B A B.

cartpole  seconds of training until 40 greedy episodes of CartPole-v1 all reach 500 steps, and the mean of 100 others
rate      env steps a second of training: 10 CartPoles, an update of 128 transitions every 10 env steps, net 120-84
update    milliseconds of an update of the Nature CNN, 32 transitions of Atari's images from a replay buffer of frames
memory    resident bytes of a full replay buffer of Atari's images, beside what its formula says
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from bench_rounds import in_turn, isolated

GOAL, GOAL_EPISODES = 500.0, 40
EVALUATION_SEED = 10_000  # of the peer's first episode
NEVER = 10**9


def main(words: list[str]) -> None:
    """Run the benchmark that `words` name."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench dqn", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs=2, default=(600, 620), metavar=("FIRST", "END"), help="of cartpole")
    parser.add_argument("--capacity", type=int, default=200_000, help="of memory")
    options = parser.parse_args(words)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # every measuring process inherits these
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    BENCHMARKS[options.benchmark](options)


# -------------------------------------------------------------------- what is measured


def cartpole(options: argparse.Namespace) -> None:
    """Training alone is timed, by the clock; evaluations are not."""
    contestants: dict[str, Callable[[int], tuple[float, float]]] = {"aibig, dqn/cartpole": our_cartpole}
    if has_sb3():
        contestants["stable-baselines3, zoo's settings"] = sb3_cartpole
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for seed in range(*options.seeds):
        for name, measure in contestants.items():
            results[name].append(isolated(partial(measure, seed)))
    print("| | seconds, median (min to max) | mean of 100 episodes: mean, sd | seeds with 495 and more |")
    print("|---|---|---|---|")
    for name, runs in results.items():
        seconds, returns = zip(*runs, strict=True)
        spread = f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
        solved = sum(mean_return >= 495 for mean_return in returns)
        mean = f"{statistics.mean(returns):.1f}, {statistics.pstdev(returns):.1f}"
        print(f"| {name} | {spread} | {mean} | {solved} of {len(returns)} |", flush=True)


def rate(options: argparse.Namespace) -> None:
    """Of the whole loops; CPU time where there is one thread."""
    contestants: dict[str, Callable[[], float]] = {"aibig": our_rate}
    if has_sb3():
        contestants["stable-baselines3"] = sb3_rate
    report(contestants, options.rounds, "env steps/s")


def update(options: argparse.Namespace) -> None:
    """Sampling, loss, gradient and step; by the clock."""
    contestants: dict[str, Callable[[], float]] = {
        f"aibig {precision}": partial(our_update, precision) for precision in ("fp32", "bf16")
    }
    contestants["plain PyTorch fp32"] = plain_update
    report(contestants, options.rounds, "ms")


def memory(options: argparse.Namespace) -> None:
    """Of a process, before and after it fills a replay buffer."""
    measured, formula = isolated(partial(our_memory, options.capacity))
    print(f"{options.capacity:,} steps: {measured / 1e9:.3f} GB resident, {formula / 1e9:.3f} GB by the formula")


BENCHMARKS: dict[str, Callable[[argparse.Namespace], None]] = {
    "cartpole": cartpole,
    "rate": rate,
    "update": update,
    "memory": memory,
}


def report(contestants: dict[str, Callable[[], float]], rounds: int, unit: str) -> None:
    """A table of medians, and how they compare with the first."""
    results = in_turn({name: partial(isolated, measure) for name, measure in contestants.items()}, rounds)
    medians = {name: statistics.median(values) for name, values in results.items()}
    ours = next(iter(medians.values()))
    print(f"| | {unit} (min to max) | aibig / this |\n|---|---|---|")
    for name, values in results.items():
        spread = f"{medians[name]:,.1f} ({min(values):,.1f} to {max(values):,.1f})"
        print(f"| {name} | {spread} | {ours / medians[name]:.2f} |", flush=True)


# -------------------------------------------------------------------- aibig


def our_cartpole(seed: int) -> tuple[float, float]:
    """Seconds of training, and the mean return of the test's 100 episodes."""
    from aibig.config.run_config import load_config
    from aibig.runs.train import build

    trainer, task = build(load_config("dqn/cartpole", {"seed": seed, "trainer.threads": 1}))
    result = trainer.fit(task)
    return result.progress.train_seconds, result.metrics["mean_return"]


def our_rate() -> float:
    """Env steps a second of the whole trainer."""
    from aibig.config.run_config import load_config
    from aibig.runs.train import build

    updates = 2_000
    config = {
        "model": {"name": "dqn", "hidden": [120, 84]},
        "task": {"name": "q_learning", "env_steps_per_update": 10, "learning_starts": 1_000, "double": False},
        "env": {"name": "CartPole-v1", "count": 10},
        "data": {"name": "replay", "batch_size": 128},
        "optimizer": {"name": "adam", "lr": 2.5e-4},
        "trainer": {"max_steps": updates + 1, "log_every": 100, "eval_every": NEVER, "save_every": NEVER},
    }
    trainer, task = build(load_config(config))
    marks, after_update = {}, task.after_update

    def timed_after_update(step: int) -> None:
        after_update(step)
        if step in (1, updates + 1):
            marks[step] = time.process_time(), task.env_steps

    task.after_update = timed_after_update  # type: ignore[method-assign]
    task.episodes = {"validation": 1, "test": 1}
    trainer.fit(task)
    (start, first_env_steps), (end, last_env_steps) = marks[1], marks[updates + 1]
    return (last_env_steps - first_env_steps) / (end - start)


def our_update(precision: str) -> float:
    """Milliseconds of an update by the task's own loss, as the trainer does it."""
    import torch

    from aibig.config.registry import create_model
    from aibig.tasks.q_learning.td_losses import huber_loss
    from aibig.training.devices.cpu import prepare_cpu
    from aibig.training.optimizers.builders import adam

    prepare_cpu()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model, target_network = (create_model("nature_cnn", actions=6) for _ in range(2))
    optimizer, replay, generator = adam(lr=1e-4)(model), filled_replay(2_000), torch.Generator()

    def update_once() -> None:
        batch = replay.sample(32, generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            q_values = model(batch.observation).float().gather(1, batch.action[:, None]).squeeze(1)
            with torch.no_grad():
                next_q_values = target_network(batch.next_observation).float().amax(1)
            loss = huber_loss(q_values, batch.reward + batch.discount * next_q_values)[0].mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return milliseconds(update_once)


def filled_replay(capacity: int) -> Any:
    """A full replay buffer of random frames."""
    import numpy as np
    import torch

    from aibig.data.replay.base import EnvStep, ReplaySpec
    from aibig.data.replay.frame_replay import FrameReplayBuffer

    replay = FrameReplayBuffer(ReplaySpec((4, 84, 84), 6, 8, torch.uint8, 4), capacity=capacity)
    frames = np.random.default_rng(0).integers(256, size=(8, 4, 84, 84)).astype(np.uint8)
    zeros, no = np.zeros(8, np.float32), np.zeros(8, bool)
    for _ in range(capacity // 8):
        replay.add(EnvStep(frames, np.zeros(8, np.int64), zeros, frames, no, no, ~no))
    return replay


def our_memory(capacity: int) -> tuple[int, int]:
    """Bytes that a full replay buffer has taken, and that its formula says."""
    filled_replay(1_000)  # imports
    before = resident()
    replay = filled_replay(capacity)
    measured = resident() - before
    return measured, len(replay._action) * (84 * 84 + 12)


def resident() -> int:
    """Bytes of this process in memory (Linux)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def milliseconds(function: Callable[[], None], times: int = 60) -> float:
    """The median time of a call by the clock, after 5 to warm up."""
    seconds = []
    for number in range(times + 5):
        start = time.perf_counter()
        function()
        if number >= 5:
            seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)


# -------------------------------------------------------------------- peers


def has_sb3() -> bool:
    """Whether Stable-Baselines3 is installed; if not, say so."""
    is_installed = importlib.util.find_spec("stable_baselines3") is not None
    if not is_installed:
        print("stable-baselines3: not installed (pip install 'aibig[peers]'): skipped")
    return is_installed


def sb3_cartpole(seed: int) -> tuple[float, float]:
    """With the settings of its zoo (rl-baselines3-zoo, hyperparams/dqn.yml), evaluated every 1,000 env steps."""
    import torch
    from stable_baselines3 import DQN
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.evaluation import evaluate_policy

    torch.set_num_threads(1)
    paused = 0.0

    class UntilGoal(BaseCallback):
        def _on_step(self) -> bool:
            nonlocal paused
            if self.num_timesteps % 1_000:
                return True
            start = time.perf_counter()
            mean_return = evaluate(GOAL_EPISODES, EVALUATION_SEED)
            paused += time.perf_counter() - start
            return mean_return < GOAL

    def evaluate(episodes: int, first_seed: int) -> float:
        from stable_baselines3.common.env_util import make_vec_env

        envs = make_vec_env("CartPole-v1", n_envs=10, seed=first_seed)
        mean_return, _ = evaluate_policy(model, envs, n_eval_episodes=episodes, deterministic=True)
        return float(mean_return)

    model = DQN(
        "MlpPolicy",
        "CartPole-v1",
        learning_rate=2.3e-3,
        batch_size=64,
        buffer_size=100_000,
        learning_starts=1_000,
        gamma=0.99,
        target_update_interval=10,
        train_freq=256,
        gradient_steps=128,
        exploration_fraction=0.16,
        exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]},
        seed=seed,
        device="cpu",
    )
    start = time.perf_counter()
    model.learn(50_000, callback=UntilGoal())
    return time.perf_counter() - start - paused, evaluate(100, EVALUATION_SEED + 1_000)


def sb3_rate() -> float:
    """Env steps a second of its loop, with ten environments."""
    import torch
    from stable_baselines3 import DQN
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)
    envs = make_vec_env("CartPole-v1", n_envs=10)
    model = DQN(
        "MlpPolicy",
        envs,
        learning_rate=2.5e-4,
        batch_size=128,
        buffer_size=50_000,
        learning_starts=1_000,
        train_freq=1,
        gradient_steps=1,
        policy_kwargs={"net_arch": [120, 84]},
        device="cpu",
    )
    model.learn(1_010)
    start = time.process_time()
    model.learn(10_000, reset_num_timesteps=False)
    return 10_000 / (time.process_time() - start)


def plain_update() -> float:
    """Milliseconds of an update as it is usually written: fp32, images divided by 255, Adam."""
    import torch
    from torch import nn

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    def network() -> nn.Module:
        convolutions = [nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3, 1)]
        return nn.Sequential(*convolutions, nn.ReLU(), nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 6))

    model, target_network = network(), network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    images = torch.randint(256, (2, 2_000, 4, 84, 84), dtype=torch.uint8)

    def update_once() -> None:
        index = torch.randint(2_000, (32,))
        observation, next_observation = images[0, index].float() / 255.0, images[1, index].float() / 255.0
        with torch.no_grad():
            target_q_values = 0.99 * target_network(next_observation).amax(1)
        loss = nn.functional.smooth_l1_loss(model(observation)[:, 0], target_q_values)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return milliseconds(update_once)

"""Trains a run with several seeds, each in a folder of its own, with mean and standard deviation beside them."""

from __future__ import annotations

import copy
import json
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aibig.config.run_config import load_config
from aibig.errors import Diverged, UserError
from aibig.files import read_json, write_text
from aibig.metrics.names import metrics_line
from aibig.ranks import is_main_rank, world_size
from aibig.runs.train import train

if TYPE_CHECKING:
    from aibig.training.callbacks import Callback

FILE = "seeds.json"


@dataclass
class SeedRuns:
    """Runs that differ by their seed.

    Args:
        path: folder with a run in each seed-N/, and seeds.json.
        seeds: all seeds.
        values: seed -> test metrics, of runs that did not diverge.
        diverged: seeds of runs whose loss or metrics did not stay finite.
    """

    path: Path
    seeds: list[int]
    values: dict[int, dict[str, float]] = field(default_factory=dict)
    diverged: list[int] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether every run has ended."""
        return {*self.values, *self.diverged} == {*self.seeds}

    @property
    def metrics(self) -> dict[str, dict[str, float | None]]:
        """Mean, sample standard deviation (over n - 1; None for a single seed), lowest and highest value by metric."""
        rows = list(self.values.values())
        columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}
        return {
            name: {
                "mean": statistics.fmean(column),
                "standard_deviation": statistics.stdev(column) if len(column) > 1 else None,
                "lowest": min(column),
                "highest": max(column),
            }
            for name, column in columns.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """The contents of seeds.json."""
        values = {str(seed): row for seed, row in self.values.items()}
        return {"seeds": self.seeds, "metrics": self.metrics, "values": values, "diverged": self.diverged}


def train_seeds(
    config: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    *,
    seeds: int = 5,
    out: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    on_seed_end: Callable[[str], None] = lambda line: None,
) -> SeedRuns:
    """Train a run with several seeds. Returns mean and standard deviation of the test metrics.

    A run that diverges is listed, and the next one starts. Ctrl-C ends the current run and all after it.

    Args:
        config: as for `aibig.train`; its seed is the first one.
        overrides: as for `aibig.train`.
        seeds: number of runs, with consecutive seeds.
        out: new folder, with a run in each seed-N/ and the metrics in seeds.json; by default the next number under
            runs/, such as runs/digits-seeds-0001.
        resume: continue in `out`, by default in the newest folder of this config: finished runs are kept, unfinished
            runs are resumed.
        callbacks: as for `aibig.train`.
        on_seed_end: called with a line of text about each run that has ended.

    Raises:
        UserError: the config or an argument has a mistake.
    """
    if seeds < 1:
        raise UserError(f"seeds must be at least 1, not {seeds}")
    if out is None and world_size() > 1:
        raise UserError("several seeds on several ranks need a common folder; give --out DIR")
    checked = load_config(config, overrides)
    first = checked.values["seed"]
    runs = SeedRuns(_folder(out, f"{checked.name}-seeds", resume), list(range(first, first + seeds)))
    folders = {seed: runs.path / f"seed-{seed}" for seed in runs.seeds}
    started = {seed for seed, folder in folders.items() if (folder / "config.yaml").is_file()}
    _write_seeds(runs)
    for seed, folder in folders.items():
        run_overrides: Any = copy.copy(overrides or {})  # which may be a CommandLine
        run_overrides["seed"] = seed
        try:
            result = train(config, run_overrides, out=folder, resume=seed in started, callbacks=callbacks).result
        except Diverged as error:
            runs.diverged.append(seed)
            on_seed_end(f"seed {seed}: diverged: {error}")
        except BaseException:
            if not resume and not any(map(Path.exists, folders.values())):  # nothing has begun
                shutil.rmtree(runs.path, ignore_errors=True)
            raise
        else:
            if result is None:
                break
            if None in result["metrics"].values():
                runs.diverged.append(seed)
            else:
                runs.values[seed] = result["metrics"]
            on_seed_end(f"seed {seed}: {metrics_line(result['metrics'])}")
        _write_seeds(runs)
    return runs


def find_seed_runs(folder: str | Path) -> tuple[Path, int] | None:
    """The config of runs with several seeds, and the number of seeds; None if the folder has no such runs.

    Args:
        folder: folder that `train_seeds` wrote.
    """
    try:
        seeds = read_json(Path(folder) / FILE)["seeds"]
        return Path(folder) / f"seed-{seeds[0]}" / "config.yaml", len(seeds)
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _folder(out: str | Path | None, name: str, resume: bool) -> Path:
    from aibig.training.checkpoints import run_folder

    if resume:
        return run_folder.folder_to_resume(out, name, containing=FILE)
    return run_folder.create_folder(out, name) if out is None or is_main_rank() else Path(out)


def _write_seeds(runs: SeedRuns) -> None:
    if is_main_rank():
        write_text(runs.path / FILE, json.dumps(runs.to_dict(), indent=1) + "\n")

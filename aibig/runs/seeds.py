"""The same run with several seeds: each in its own folder, their mean and spread beside them."""

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
from aibig.metrics.functions import metrics_line
from aibig.ranks import is_main_rank, world_size
from aibig.runs.train import train

if TYPE_CHECKING:
    from aibig.training.callbacks import Callback

FILE = "seeds.json"


@dataclass
class Repeated:
    """Runs that differ by their seed, in the folder `path`.

    seeds: all that were asked for. values: seed -> test metrics, of those that ended well. diverged: the seeds whose
    numbers did not stay finite.
    """

    path: Path
    seeds: list[int]
    values: dict[int, dict[str, float]] = field(default_factory=dict)
    diverged: list[int] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether every seed has come to its end."""
        return {*self.values, *self.diverged} == {*self.seeds}

    @property
    def metrics(self) -> dict[str, dict[str, float | None]]:
        """Mean, standard deviation (of a sample: over n - 1; None for one seed), lowest and highest of each metric."""
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
    report: Callable[[str], None] = lambda line: None,
) -> Repeated:
    """Train what `config` describes with `seeds` seeds, from its own seed on, and return their mean and spread.

    out: a new folder, by default the next number under runs/ (runs/digits-seeds-0001), with a run in each seed-N/ and
    the figures in seeds.json. resume: go on in `out`: a seed that came to its end is not trained again, one that
    was stopped goes on. report: is told of each seed's end, in a line. A seed that diverges is noted, and the others
    go on. An interrupted one (Ctrl-C) is the last.

    Raises UserError for whatever else is wrong.
    """
    if seeds < 1:
        raise UserError(f"seeds must be at least 1, not {seeds}")
    if out is None and world_size() > 1:
        raise UserError("several seeds on several ranks need a folder that all of them know: give --out DIR")
    whole = load_config(config, overrides)
    first = whole.values["seed"]
    repeated = Repeated(_folder(out, f"{whole.name}-seeds", resume), list(range(first, first + seeds)))
    places = {seed: repeated.path / f"seed-{seed}" for seed in repeated.seeds}
    begun = {seed for seed, place in places.items() if (place / "config.yaml").is_file()}
    _write(repeated)
    for seed, place in places.items():
        given: Any = copy.copy(overrides or {})
        given["seed"] = seed
        try:
            result = train(config, given, out=place, resume=seed in begun, callbacks=callbacks).result
        except Diverged as error:
            repeated.diverged.append(seed)
            report(f"seed {seed}: diverged: {error}")
        except BaseException:
            if not resume and not any(one.exists() for one in places.values()):  # nothing has begun
                shutil.rmtree(repeated.path, ignore_errors=True)
            raise
        else:
            if result is None:
                break
            if None in result["metrics"].values():
                repeated.diverged.append(seed)
            else:
                repeated.values[seed] = result["metrics"]
            report(f"seed {seed}: {metrics_line(result['metrics'])}")
        _write(repeated)
    return repeated


def begun_with(folder: str | Path) -> tuple[Path, int] | None:
    """The config and the number of seeds of the runs in `folder`; None if it holds no such runs."""
    try:
        seeds = json.loads((Path(folder) / FILE).read_text(encoding="utf-8"))["seeds"]
        return Path(folder) / f"seed-{seeds[0]}" / "config.yaml", len(seeds)
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _folder(out: str | Path | None, name: str, resume: bool) -> Path:
    from aibig.training.checkpoints import run_folder

    if resume:
        return run_folder.find(out, name, holding=FILE)
    return run_folder.create(out, name) if out is None or is_main_rank() else Path(out)


def _write(repeated: Repeated) -> None:
    from aibig.training.checkpoints.checkpoint import write_text

    if is_main_rank():
        write_text(repeated.path / FILE, json.dumps(repeated.to_dict(), indent=1) + "\n")

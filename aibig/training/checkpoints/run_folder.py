"""The folder of a run: numbered, described, never written into by another run. Knows no task.

runs/digits-0001/
  config.yaml     resolved: every default filled in, enough to run again
  metrics.jsonl   one object a log or evaluation line
  result.json     what came of it
  checkpoints/    for resuming
  tensorboard/    if that was asked for
  model/          for using
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aibig.config.run_config import Config, differences
from aibig.config.yaml_file import read_yaml
from aibig.errors import UserError
from aibig.training.checkpoints.checkpoint import newest_whole, steps, write_text

CONFIG, RESULT = "config.yaml", "result.json"
CHOSEN_BY_RULE = ("device", "precision", "threads")


@dataclass
class Run:
    """A run: where it is, and what came of it (the contents of result.json; None while it is unfinished)."""

    path: Path
    result: dict[str, Any] | None = None


def create(out: str | Path | None, name: str) -> Path:
    """A new folder: `out`, or runs/NAME-0001 with the next free number. Raises UserError if `out` is in use."""
    if out is not None:
        folder = Path(out)
        refuse_if_in_use(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    number = 1 + max((_number(one) for one in _numbered(name)), default=0)
    while True:
        folder = Path("runs") / f"{name}-{number:04d}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:  # another process was faster
            number += 1


def refuse_if_in_use(folder: Path) -> None:
    """Raise UserError if there is anything in `folder`."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: holds something already; go on with a run there by --resume, or give another --out")


def find(out: str | Path | None, name: str, *, holding: str = CONFIG) -> Path:
    """The folder to resume: `out`, or the newest numbered one of `name`. Raises UserError if there is none."""
    if out is None:
        numbered = [one for one in _numbered(name) if (one / holding).is_file()]
        if not numbered:
            raise UserError(f"runs/: holds no run of {name!r} to resume; name its folder with --out")
        return max(numbered, key=_number)
    if not (Path(out) / holding).is_file():
        raise UserError(f"{out}: holds no run to resume (no {holding}); leave out --resume to begin one there")
    return Path(out)


def adopt_choices(config: Config, folder: Path) -> None:
    """Let a config that resumes the run in `folder` have what "auto" came to there; check that it is the same run.

    Raises UserError naming every setting that differs and may not.
    """
    before, _ = read_yaml(folder / CONFIG)
    trainer = config.values["trainer"]
    for key in CHOSEN_BY_RULE:
        if trainer[key] == "auto":
            trainer[key] = before["trainer"][key]
    for key, value in config.section("data").items():  # such as target_type, which the task chose
        if value == "auto":
            config.values["data"][key] = before.get("data", {}).get(key, value)
    for key, value in before["model"].items():  # what the data gave the model
        if f"model.{key}" not in config.locations:
            config.values["model"][key] = value
    rows = differences(before, config.plain())
    if rows:
        raise UserError(
            "\n".join(
                f"{folder / CONFIG}: {key}: the run began with {old!r}, a resume can't change it to {new!r}; "
                "begin a new run, or leave it as it was"
                for key, old, new in rows
            )
        )


def discard(folder: Path) -> None:
    """Take away a folder that `create` made, of a run that failed before its first update."""
    shutil.rmtree(folder, ignore_errors=True)


def begin(folder: Path, config: Config) -> None:
    """Write the resolved config; a result of before, when the limit was shorter, is none any more."""
    (folder / RESULT).unlink(missing_ok=True)
    write_text(folder / CONFIG, config.to_yaml())


def is_complete(folder: Path, config: Config) -> bool:
    """Whether the run in `folder` came to the end that `config` sets."""
    return read_result(folder) is not None and read_yaml(folder / CONFIG)[0] == config.plain()


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """Write result.json."""
    write_text(folder / RESULT, json.dumps(result, indent=1) + "\n")


def refuse_without_checkpoints(folder: Path) -> None:
    """Raise UserError for a finished run that has nothing to go on from: it would begin again over its model."""
    if read_result(folder) is not None and not steps(folder / "checkpoints"):
        raise UserError(f"{folder}: is finished and has no checkpoints to go on from; begin a new run (another --out)")


def has_checkpoint(folder: Path) -> bool:
    """Whether the run in `folder` has a whole checkpoint to go on from; without one it begins again."""
    return newest_whole(folder / "checkpoints", lambda damage: None) is not None


def read_result(folder: Path) -> dict[str, Any] | None:
    """The contents of result.json, None if the run is unfinished."""
    try:
        result: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        return result
    except (OSError, ValueError):
        return None


def _numbered(name: str) -> list[Path]:
    return [one for one in Path("runs").glob(f"{name}-*") if re.fullmatch(r"\d{4,}", one.name[len(name) + 1 :])]


def _number(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])

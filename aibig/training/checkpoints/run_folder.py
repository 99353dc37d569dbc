"""The folder of a run: numbered, described, never written into by another run. Knows no task.

runs/digits-0001/
  config.yaml     the resolved config, with every default, enough to run again
  metrics.jsonl   one record (line) per log or evaluation
  result.json     the result
  checkpoints/    for a resume
  tensorboard/    with trainer.tensorboard
  model/          for inference
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
from aibig.files import read_json, write_text
from aibig.training.checkpoints.checkpoint import newest_valid, steps

CONFIG, RESULT = "config.yaml", "result.json"
CHOSEN_BY_RULE = ("device", "precision", "threads")


@dataclass
class Run:
    """A run.

    Args:
        path: its folder.
        result: contents of result.json; None if the run is unfinished.
    """

    path: Path
    result: dict[str, Any] | None = None


def create_folder(out: str | Path | None, name: str) -> Path:
    """Make a new folder for a run.

    Args:
        out: path of the folder; None: runs/NAME-0001, with the next free number.
        name: name of the run.

    Raises:
        UserError: `out` is in use.
    """
    if out is not None:
        folder = Path(out)
        refuse_if_in_use(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    number = 1 + max((_number(other) for other in _numbered(name)), default=0)
    while True:
        folder = Path("runs") / f"{name}-{number:04d}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:  # by another process
            number += 1


def refuse_if_in_use(folder: Path) -> None:
    """Check that a folder is empty or not there.

    Args:
        folder: folder for a new run.

    Raises:
        UserError: the folder has files.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is not empty; add --resume to continue a run there, or give another --out")


def folder_to_resume(out: str | Path | None, name: str, *, containing: str = CONFIG) -> Path:
    """The folder of the run to resume.

    Args:
        out: path of the folder; None: the newest numbered folder of that name.
        name: name of the run.
        containing: file that such a folder must have.

    Raises:
        UserError: there is no such folder.
    """
    if out is None:
        numbered = [folder for folder in _numbered(name) if (folder / containing).is_file()]
        if not numbered:
            raise UserError(f"runs/: holds no run of {name!r} to resume; name its folder with --out")
        return max(numbered, key=_number)
    if not (Path(out) / containing).is_file():
        raise UserError(f"{out}: holds no run to resume (no {containing}); leave out --resume to begin one there")
    return Path(out)


def restore_auto_choices(config: Config, folder: Path) -> None:
    """Set "auto", and settings that the data decide, to the values that the resumed run began with.

    Args:
        config: config of the resume; is changed.
        folder: of the run.

    Raises:
        UserError: settings differ that a resume can't change; each has a line.
    """
    saved, _ = read_yaml(folder / CONFIG)
    trainer = config.values["trainer"]
    for key in CHOSEN_BY_RULE:
        if trainer[key] == "auto":
            trainer[key] = saved["trainer"][key]
    for key, value in config.section("data").items():  # such as target_type, which the task chose
        if value == "auto":
            config.values["data"][key] = saved.get("data", {}).get(key, value)
    for key, value in saved["model"].items():  # settings that the data decide
        if f"model.{key}" not in config.locations:
            config.values["model"][key] = value
    rows = differences(saved, config.plain())
    if rows:
        raise UserError(
            "\n".join(
                f"{folder / CONFIG}: {key}: the run began with {old!r}, a resume can't change it to {new!r}; "
                "begin a new run, or leave it as it was"
                for key, old, new in rows
            )
        )


def discard(folder: Path) -> None:
    """Delete the folder of a run that failed before its first update.

    Args:
        folder: folder of the run.
    """
    shutil.rmtree(folder, ignore_errors=True)


def write_config(folder: Path, config: Config) -> None:
    """Write the resolved config, and delete the result of a run with a lower limit that is resumed.

    Args:
        folder: of the run.
        config: resolved.
    """
    (folder / RESULT).unlink(missing_ok=True)
    write_text(folder / CONFIG, config.to_yaml())


def is_complete(folder: Path, config: Config) -> bool:
    """Whether the run has ended by the limits of a config.

    Args:
        folder: of the run.
        config: resolved.
    """
    return read_result(folder) is not None and read_yaml(folder / CONFIG)[0] == config.plain()


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """Write result.json.

    Args:
        folder: of the run.
        result: plain values.
    """
    write_text(folder / RESULT, json.dumps(result, indent=1) + "\n")


def refuse_without_checkpoints(folder: Path) -> None:
    """Check that a finished run has checkpoints; without them a resume would overwrite its model.

    Args:
        folder: of the run.

    Raises:
        UserError: there are no checkpoints.
    """
    if read_result(folder) is not None and not steps(folder / "checkpoints"):
        raise UserError(f"{folder}: is finished and has no checkpoints to go on from; begin a new run (another --out)")


def has_checkpoint(folder: Path) -> bool:
    """Whether the run has a valid checkpoint; without one a resume starts from the beginning.

    Args:
        folder: of the run.
    """
    return newest_valid(folder / "checkpoints", lambda damage: None) is not None


def read_result(folder: Path) -> dict[str, Any] | None:
    """The contents of result.json; None if the run is unfinished.

    Args:
        folder: of the run.
    """
    try:
        result: dict[str, Any] = read_json(folder / RESULT)
        return result
    except (OSError, ValueError):
        return None


def _numbered(name: str) -> list[Path]:
    folders = Path("runs").glob(f"{name}-*")
    return [folder for folder in folders if re.fullmatch(r"\d{4,}", folder.name[len(name) + 1 :])]


def _number(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])

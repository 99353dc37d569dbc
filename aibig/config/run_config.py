"""A run as written in a file: read with line marks, checked against signatures, completed. Knows no torch.

Sections: `seed`, then `model`, `task`, `data`, `env`, `optimizer`, `schedule` (each a `name` and the settings of
what it names), `trainer` (the settings of `aibig.training.trainer.Trainer`) and, where a model is to start from what
another has learned, `finetune` (those of `aibig.pretrained.finetune.finetune`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from aibig.config.registry import SECTIONS, PythonObject, Registry, check_setting
from aibig.config.settings import (
    REQUIRED,
    NonNegativeInt,
    Setting,
    check,
    load,
    read_settings,
)
from aibig.config.yaml_file import parse_value, read_yaml, to_yaml
from aibig.errors import UserError, nearest

TRAINER = "aibig.training.trainer:Trainer"
FINETUNE = "aibig.pretrained.finetune:finetune"
PUBLISHED_SETTINGS = "aibig.pretrained.finetune:published_settings"
OVERRIDES, COMMAND_LINE = "overrides", "command line"  # the places of settings that are not in the file
LONGEST_NAME = 200  # characters; longer ones are texts
OWN_SETTINGS = {"trainer": TRAINER, "finetune": FINETUNE}  # sections that name nothing
DEFAULT_NAMES = {"optimizer": "adamw", "schedule": "constant"}

# What a resumed run may set otherwise than it began: how long it goes on, how often and where it logs and saves, who
# reads.
# Everything else decides the numbers, and a resume that changes it is refused.
READERS = {"workers", "prefetch"}  # of the data
MAY_CHANGE_AT_RESUME = {
    *("max_steps", "max_epochs", "max_samples", "max_tokens", "max_env_steps", "max_minutes"),
    *("patience", "min_delta", "goal"),
    *("log_every", "save_every", "save_minutes", "keep_last", "tensorboard"),
}


@dataclass
class Config:
    """A checked run: every section's values with every default that is known without data filled in."""

    values: dict[str, Any]
    name: str = "run"
    locations: dict[str, str] = field(default_factory=dict)  # "optimizer.lr" -> "configs/x.yaml:7"
    weights_follow: bool = False  # a checkpoint's or a finished model's: files of first weights are not asked for

    def section(self, name: str) -> dict[str, Any]:
        """The settings of a section, without its name."""
        return {key: value for key, value in self.values.get(name, {}).items() if key != "name"}

    def named(self, name: str) -> str | PythonObject:
        """What a section names, or the object in place of a name."""
        chosen: str | PythonObject = self.values[name]["name"]
        return chosen

    def create(self, section: str, /, *arguments: Any, **given: Any) -> Any:
        """Make what a section names. `given` are settings that data decide; the constructor takes what it knows.

        Raises UserError, with the place in the file, if a setting contradicts what is given or does not work.
        """
        registry, name, settings = SECTIONS[section], self.named(section), self.section(section)
        given = {key: value for key, value in given.items() if key in registry.settings(name)}
        if section == "model":
            given = self._published_settings() | given
        for key, value in given.items():
            if key in settings and settings[key] != value and f"{section}.{key}" in self.locations:
                raise UserError(
                    f"{self.locations[f'{section}.{key}']}: {section}.{key}: is {settings[key]!r}, but the data "
                    f"make it {value!r}; leave it out"
                )
        self.values[section].update(given)
        if self.weights_follow:
            settings = {k: v for k, v in settings.items() if k not in registry.entry(name).first_weights}
        with self.blaming(section):
            made = registry.create(name, *arguments, **settings | given)
        if section == "model" and "finetune" in self.values:
            weights = {"weights": None} if self.weights_follow else {}
            with self.blaming("finetune"):
                load(FINETUNE)(made, **self.section("finetune") | weights)
        return made

    def _published_settings(self) -> dict[str, Any]:
        """What the published model that this one starts from decides, and the run does not."""
        weights = self.values.get("finetune", {}).get("weights")
        if weights is None or self.weights_follow:
            return {}
        with self.blaming("finetune"):
            decided: dict[str, Any] = load(PUBLISHED_SETTINGS)(self.named("model"), weights)
        return {key: value for key, value in decided.items() if f"model.{key}" not in self.locations}

    @contextmanager
    def blaming(self, section: str) -> Iterator[None]:
        """Put a section's place before what goes wrong while it is built."""
        try:
            yield
        except UserError as error:
            place = self.locations.get(section, self.locations.get("", self.name))
            placed = tuple(f"{one}: " for one in {*self.locations.values(), place})  # by what is built within this
            own = [key for key in self.locations if key.startswith(f"{section}.")]
            elsewhere = [key for key in own if self.locations[key] in (OVERRIDES, COMMAND_LINE)]
            ending = f" ({', '.join(elsewhere)}: from the {self.locations[elsewhere[0]]})" if elsewhere else ""
            lines = []
            for line in error.args[0].split("\n"):
                if not line.startswith(placed):
                    begin = place if line.startswith(f"{section}.") else f"{place}: {section}"
                    line = f"{begin}: {line}{ending}"
                lines.append(line)
            raise UserError("\n".join(lines)) from error

    def to_yaml(self) -> str:
        """The run as a file that runs again."""
        return to_yaml(self.plain())

    def plain(self) -> dict[str, Any]:
        """The values as YAML reads them: lists instead of tuples."""
        values: dict[str, Any] = _plain(self.values)
        return values


def load_config(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Config:
    """Read and check a run from a file, a shipped config's name ("nets/digits") or a mapping of sections.

    In a mapping, data, environment or model may be an object in place of a name (see `aibig.train`). `overrides`
    are dotted keys, `{"optimizer.lr": 3e-3}`. Raises UserError with every mistake on a line of its own,
    `configs/x.yaml:7: optimizer.learnrate: unknown setting; did you mean 'lr'?`.
    """
    if isinstance(source, Mapping):
        values = {key: _from_python(inside) for key, inside in source.items()}
        name = _name_of(values)
        locations = {f"{section}.{key}": "config" for section, inside in values.items() for key in _keys(inside)}
        locations |= dict.fromkeys(["", *values], "config")
    else:
        path = find_config(source)
        values, locations = read_yaml(path)
        name = path.stem
    config = Config(values, name, locations)
    for key, value in (overrides or {}).items():
        _override(config, key, value, place=COMMAND_LINE if isinstance(overrides, CommandLine) else OVERRIDES)
    _check(config)
    return config


def _from_python(section: Any) -> Any:
    """A section with plain values, and an object in place of its name as it is."""
    if not isinstance(section, Mapping) or "name" not in section:
        return _plain(section)
    rest = _plain({key: value for key, value in section.items() if key != "name"})
    return {"name": _name_or_object(section["name"]), **rest}


def _name_or_object(value: Any) -> Any:
    is_text = isinstance(value, str) and ("\n" in value or len(value) > LONGEST_NAME)
    return PythonObject(value) if is_text or not isinstance(value, str | int | float | None) else value


def find_config(source: str | Path) -> Path:
    """The file that `source` means: a path, or the name of a config that ships with aibig."""
    path = Path(source)
    if path.is_file():
        return path
    shipped = shipped_configs()
    if str(source) in shipped:
        return shipped[str(source)]
    raise UserError(f"{source}: no such config file{nearest(str(source), shipped)} (shipped: {', '.join(shipped)})")


def shipped_configs() -> dict[str, Path]:
    """The configs that come with aibig, by name ("nets/digits"): in the wheel, or beside the package."""
    here = Path(__file__).parents[1]
    root = next((one for one in (here / "configs", here.parent / "configs") if one.is_dir()), here)
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.glob("*/*.yaml"))}


class CommandLine(dict[str, Any]):
    """Overrides that were typed, so that a mistake in them is said to stand there."""


def parse_overrides(words: Iterable[str]) -> CommandLine:
    """`["optimizer.lr=3e-3"]` as a mapping; values are read as YAML."""
    overrides = CommandLine()
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or ("." not in key and key != "seed"):
            raise UserError(f"command line: {word!r}: write section.setting=value, for example optimizer.lr=3e-3")
        try:
            overrides[key] = parse_value(value)
        except (yaml.YAMLError, ValueError):
            raise UserError(f"command line: {word!r}: {value!r} is not a YAML value") from None
    return overrides


def _override(config: Config, key: str, value: Any, place: str) -> None:
    *sections, last = key.split(".")
    inside = config.values
    for section in sections:
        inside = inside.setdefault(section, {})
        if not isinstance(inside, dict):
            raise UserError(f"{place}: {key}: {section!r} has no settings inside")
    inside[last] = _name_or_object(value) if last == "name" else value
    config.locations[key] = place


def _check(config: Config) -> None:
    """Check and complete all sections, or raise one UserError with every mistake in the order of the file."""
    mistakes: list[tuple[str, str]] = []  # dotted key, words

    def blame(key: str, words: object) -> None:
        mistakes.extend((key, line) for line in str(words).split("\n"))

    known = ["seed", *SECTIONS, "finetune", "trainer"]
    for key in config.values:
        if key not in known:
            blame(key, f"unknown section{nearest(key, known) or '; there are: ' + ', '.join(known)}")
    try:
        config.values["seed"] = check(config.values.get("seed", 0), NonNegativeInt)
    except UserError as error:
        blame("seed", error)
    for section in _sections_of(config, blame):
        _check_named(config, section, blame)
    if "finetune" in config.values:
        _check_settings(config, "finetune", "finetune", read_settings(FINETUNE), blame)
    _check_settings(config, "trainer", "the trainer", read_settings(TRAINER), blame)
    if not mistakes:
        config.values = {key: config.values[key] for key in known if key in config.values}
        return
    raise UserError("\n".join(f"{_place(config, key)}: {key}: {words}" for key, words in _in_order(config, mistakes)))


def _sections_of(config: Config, blame: Any) -> list[str]:
    """The named sections to check; which of `data` and `env` belong is the task's to say."""
    always = ["model", "task", "optimizer", "schedule"]
    try:
        name = config.named("task")
        needed = SECTIONS["task"].entry(name).sections
    except (UserError, KeyError, TypeError):  # said where the task itself is checked
        return [*always, *(one for one in ("data", "env") if one in config.values)]
    for section in ("data", "env"):
        if section in config.values and section not in needed:
            blame(section, f"the task {name!r} has no use for this section")
    return [*always, *needed]


def _check_named(config: Config, section: str, blame: Any) -> None:
    values = config.values.setdefault(section, {"name": DEFAULT_NAMES[section]} if section in DEFAULT_NAMES else None)
    registry: Registry = SECTIONS[section]
    if not isinstance(values, dict):
        return blame(section, "this section is missing" if values is None else "must hold a name and settings")
    if "name" not in values and section in DEFAULT_NAMES:
        config.values[section] = values = {"name": DEFAULT_NAMES[section], **values}
    name = values.get("name")
    if not isinstance(name, str | PythonObject):
        return blame(section, f"needs a name; there are: {', '.join(registry.names()) or 'none'}")
    try:
        declared = registry.settings(name)
    except UserError as error:
        return blame(f"{section}.name", error)
    _check_settings(config, section, f"{registry.kind} {name!r}", declared, blame)


def _check_settings(config: Config, section: str, owner: str, declared: Mapping[str, Setting], blame: Any) -> None:
    values = config.values.setdefault(section, {})
    if not isinstance(values, dict):
        return blame(section, "must hold settings")
    named = {"name": values["name"]} if "name" in values and section in SECTIONS else {}
    complete = {}
    for key, value in values.items():
        if key in named:
            continue
        try:
            complete[key] = check_setting(owner, declared, key, value)
        except UserError as error:
            known = key in declared
            words = str(error).removeprefix(f"{key} of {owner} ") if known else f"unknown setting; {error}"
            if not known and (hint := nearest(key, declared)):
                words = "unknown setting" + hint
            blame(f"{section}.{key}", words)
    for key, setting in declared.items():
        if key not in complete and setting.default is not REQUIRED:
            complete[key] = setting.default
        elif key not in values and section != "model":  # what a model needs may come from the data
            blame(section, f"{owner} needs the setting {key!r}")
    config.values[section] = named | {key: complete[key] for key in declared if key in complete}


def _place(config: Config, key: str) -> str:
    while key and key not in config.locations:
        key = key.rpartition(".")[0]
    return config.locations.get(key, config.name)


def _in_order(config: Config, mistakes: list[tuple[str, str]]) -> list[tuple[str, str]]:
    def line(mistake: tuple[str, str]) -> tuple[bool, int]:
        place = _place(config, mistake[0])
        number = place.rpartition(":")[2]
        return not number.isdigit(), int(number) if number.isdigit() else 0

    return sorted(mistakes, key=line)


def _name_of(sections: Mapping[str, Any]) -> str:
    """What to call a run that no file describes: by its model, and its environment or data ("net-digits")."""
    sources = [sections.get("model"), sections.get("env", sections.get("data"))]
    names = [str(one["name"]) for one in sources if isinstance(one, Mapping) and "name" in one]
    return re.sub(r"[^\w.-]+", "-", "-".join(names)).strip("-") or "run"  # "net-DataFrame-569-x-31"


def _keys(section: Any) -> list[str]:
    return list(section) if isinstance(section, dict) else []


def _plain(value: Any) -> Any:
    if isinstance(value, PythonObject):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(dotted key, old, new) where two resolved configs differ in what a resume may not change."""
    rows = []
    for section in sorted({*old, *new}):
        before, after = (one.get(section) for one in (old, new))
        if not isinstance(before, Mapping) or not isinstance(after, Mapping):
            rows += [(section, before, after)] if before != after else []
            continue
        for key in sorted({*before, *after}):
            free = key in {"trainer": MAY_CHANGE_AT_RESUME, "data": READERS}.get(section, ())
            if before.get(key) != after.get(key) and not free:
                rows.append((f"{section}.{key}", before.get(key), after.get(key)))
    return rows

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
from aibig.config.settings import REQUIRED, NonNegativeInt, Setting, check_value, import_object, read_settings
from aibig.config.yaml_file import parse_value, read_yaml, to_yaml
from aibig.errors import UserError, nearest

TRAINER = "aibig.training.trainer:Trainer"
FINETUNE = "aibig.pretrained.finetune:finetune"
PUBLISHED_SETTINGS = "aibig.pretrained.finetune:published_settings"
OVERRIDES, COMMAND_LINE = "overrides", "command line"  # the locations of settings that are not in the file
LONGEST_NAME = 200  # characters; longer ones are texts
UNNAMED_SECTIONS = {"trainer": TRAINER, "finetune": FINETUNE}  # whose settings are those of a class or function
DEFAULT_NAMES = {"optimizer": "adamw", "schedule": "constant"}

# What a resumed run may set otherwise than it began: how long it goes on, how often and where it logs and saves, and
# how data are loaded. Everything else decides the numbers, and a resume that changes it is refused.
MAY_CHANGE_AT_RESUME = {
    "trainer": {
        *("max_steps", "max_epochs", "max_samples", "max_tokens", "max_env_steps", "max_minutes"),
        *("patience", "min_delta", "goal"),
        *("log_every", "save_every", "save_minutes", "keep_last", "tensorboard"),
    },
    "data": {"workers", "prefetch"},
}


@dataclass
class Config:
    """A checked run: the values of all sections, with every default that is known without data filled in.

    Args:
        values: section -> its name and settings; "seed" -> a number.
        name: what the run's folder is called.
        locations: where each dotted key was set, such as "optimizer.lr" -> "configs/x.yaml:7".
        skip_initial_weights: don't read files of initial weights, since those of a checkpoint or of a finished model
            are loaded over them.
    """

    values: dict[str, Any]
    name: str = "run"
    locations: dict[str, str] = field(default_factory=dict)
    skip_initial_weights: bool = False

    def section(self, section: str) -> dict[str, Any]:
        """The settings of a section, without its name.

        Args:
            section: such as "optimizer".
        """
        return {key: value for key, value in self.values.get(section, {}).items() if key != "name"}

    def name_of(self, section: str) -> str | PythonObject:
        """What a section names, or the object in place of a name.

        Args:
            section: such as "optimizer".
        """
        name: str | PythonObject = self.values[section]["name"]
        return name

    def create(self, section: str, /, *arguments: Any, **inferred: Any) -> Any:
        """Create what a section names.

        Args:
            section: such as "model".
            arguments: what its kind is passed, before the settings.
            inferred: settings that the data decide, such as in_features; those that the constructor lacks are left out.

        Raises:
            UserError: a setting contradicts the data, or does not work; with its location.
        """
        registry, name, settings = SECTIONS[section], self.name_of(section), self.section(section)
        inferred = {key: value for key, value in inferred.items() if key in registry.settings(name)}
        if section == "model":
            inferred = self._published_settings() | inferred
        for key, value in inferred.items():
            if key in settings and settings[key] != value and f"{section}.{key}" in self.locations:
                raise UserError(
                    f"{self.locations[f'{section}.{key}']}: {section}.{key}: is {settings[key]!r}, but the data "
                    f"make it {value!r}; leave it out"
                )
        self.values[section].update(inferred)
        if self.skip_initial_weights:
            settings = {k: v for k, v in settings.items() if k not in registry.entry(name).initial_weights}
        with self.locating_errors(section):
            created = registry.create(name, *arguments, **settings | inferred)
        if section == "model" and "finetune" in self.values:
            weights = {"weights": None} if self.skip_initial_weights else {}
            with self.locating_errors("finetune"):
                import_object(FINETUNE)(created, **self.section("finetune") | weights)
        return created

    def _published_settings(self) -> dict[str, Any]:
        """The settings of the published model that this one starts from, but for those that the run sets."""
        weights = self.values.get("finetune", {}).get("weights")
        if weights is None or self.skip_initial_weights:
            return {}
        with self.locating_errors("finetune"):
            settings: dict[str, Any] = import_object(PUBLISHED_SETTINGS)(self.name_of("model"), weights)
        return {key: value for key, value in settings.items() if f"model.{key}" not in self.locations}

    @contextmanager
    def locating_errors(self, section: str) -> Iterator[None]:
        """Context in which the location of a section is put before the lines of a UserError.

        Args:
            section: the section that is built within the context.
        """
        try:
            yield
        except UserError as error:
            location = self.locations.get(section, self.locations.get("", self.name))
            located = tuple(f"{known}: " for known in {*self.locations.values(), location})  # by a context within
            keys = [key for key in self.locations if key.startswith(f"{section}.")]
            overridden = [key for key in keys if self.locations[key] in (OVERRIDES, COMMAND_LINE)]
            ending = f" ({', '.join(overridden)}: from the {self.locations[overridden[0]]})" if overridden else ""
            lines = []
            for line in error.args[0].split("\n"):
                if not line.startswith(located):
                    begin = location if line.startswith(f"{section}.") else f"{location}: {section}"
                    line = f"{begin}: {line}{ending}"
                lines.append(line)
            raise UserError("\n".join(lines)) from error

    def to_yaml(self) -> str:
        """The run as a file that runs again."""
        return to_yaml(self.plain())

    def plain(self) -> dict[str, Any]:
        """The values as YAML reads them: lists instead of tuples, objects described."""
        values: dict[str, Any] = _plain(self.values)
        return values


def load_config(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Config:
    """Read and check a run, and fill in defaults.

    Args:
        source: a YAML file, the name of a config that comes with aibig ("nets/digits"), or a mapping of sections, in
            which data, environment or model may be an object in place of a name (see `aibig.train`).
        overrides: values by dotted key, such as {"optimizer.lr": 3e-3}.

    Raises:
        UserError: there are mistakes; each has a line of its own, such as
            `configs/x.yaml:7: optimizer.learnrate: unknown setting; did you mean 'lr'?`.
    """
    if isinstance(source, Mapping):
        values = {key: _from_python(section) for key, section in source.items()}
        name = _run_name(values)
        locations = {f"{key}.{setting}": "config" for key, section in values.items() for setting in _keys(section)}
        locations |= dict.fromkeys(["", *values], "config")
    else:
        path = find_config(source)
        values, locations = read_yaml(path)
        name = path.stem
    config = Config(values, name, locations)
    for key, value in (overrides or {}).items():
        _override(config, key, value, COMMAND_LINE if isinstance(overrides, CommandLine) else OVERRIDES)
    _check(config)
    return config


def _from_python(section: Any) -> Any:
    """A section with plain values, and an object in place of its name as it is."""
    if not isinstance(section, Mapping) or "name" not in section:
        return _plain(section)
    rest = _plain({key: value for key, value in section.items() if key != "name"})
    return {"name": _wrap_object(section["name"]), **rest}


def _wrap_object(value: Any) -> Any:
    """A name as it is, and what is none as a PythonObject."""
    is_text = isinstance(value, str) and ("\n" in value or len(value) > LONGEST_NAME)
    return PythonObject(value) if is_text or not isinstance(value, str | int | float | None) else value


def find_config(source: str | Path) -> Path:
    """The file of a config.

    Args:
        source: a path, or the name of a config that comes with aibig.

    Raises:
        UserError: there is none.
    """
    path = Path(source)
    if path.is_file():
        return path
    shipped = shipped_configs()
    if str(source) in shipped:
        return shipped[str(source)]
    raise UserError(f"{source}: no such config file{nearest(str(source), shipped)} (shipped: {', '.join(shipped)})")


def shipped_configs() -> dict[str, Path]:
    """The configs that come with aibig, by name ("nets/digits"): in the wheel, or beside the package."""
    package = Path(__file__).parents[1]
    root = next(filter(Path.is_dir, (package / "configs", package.parent / "configs")), package)
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.glob("*/*.yaml"))}


class CommandLine(dict[str, Any]):
    """Overrides from the command line, which errors name as their location."""


def parse_overrides(words: Iterable[str]) -> CommandLine:
    """Overrides as they are typed, as a mapping.

    Args:
        words: such as "optimizer.lr=3e-3"; values are read as YAML.

    Raises:
        UserError: a word has no dotted key, or no YAML value.
    """
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


def _override(config: Config, key: str, value: Any, location: str) -> None:
    *sections, last = key.split(".")
    settings = config.values
    for section in sections:
        settings = settings.setdefault(section, {})
        if not isinstance(settings, dict):
            raise UserError(f"{location}: {key}: {section!r} has no settings inside")
    settings[last] = _wrap_object(value) if last == "name" else value
    config.locations[key] = location


def _check(config: Config) -> None:
    """Check and complete all sections, or raise one UserError with every mistake in the order of the file."""
    mistakes: list[tuple[str, str]] = []  # dotted key, message

    def note(key: str, message: object) -> None:
        mistakes.extend((key, line) for line in str(message).split("\n"))

    known = ["seed", *SECTIONS, "finetune", "trainer"]
    for key in config.values:
        if key not in known:
            note(key, f"unknown section{nearest(key, known) or '; there are: ' + ', '.join(known)}")
    try:
        config.values["seed"] = check_value(config.values.get("seed", 0), NonNegativeInt)
    except UserError as error:
        note("seed", error)
    sections = _sections_of(config, note)
    for section in sections:
        _check_name(config, section, note)
    if not mistakes:  # settings take importing what is named, and with it torch
        for section in sections:
            name, registry = config.name_of(section), SECTIONS[section]
            try:
                declared = registry.settings(name)
            except UserError as error:  # a package that it needs is missing
                note(f"{section}.name", error)
            else:
                _check_settings(config, section, f"{registry.kind} {name!r}", declared, note)
        for section, target in UNNAMED_SECTIONS.items():
            if section == "trainer" or section in config.values:
                _check_settings(config, section, f"the section {section!r}", read_settings(target), note)
    if mistakes:
        lines = [f"{_location(config, key)}: {key}: {message}" for key, message in _in_order(config, mistakes)]
        raise UserError("\n".join(lines))
    config.values = {key: config.values[key] for key in known if key in config.values}


def _sections_of(config: Config, note: Any) -> list[str]:
    """The named sections to check; which of `data` and `env` belong is the task's to say."""
    always = ["model", "task", "optimizer", "schedule"]
    try:
        name = config.name_of("task")
        needed = SECTIONS["task"].entry(name).sections
    except (UserError, KeyError, TypeError):  # noted where the task itself is checked
        return [*always, *(section for section in ("data", "env") if section in config.values)]
    for section in ("data", "env"):
        if section in config.values and section not in needed:
            note(section, f"the task {name!r} has no use for this section")
    return [*always, *needed]


def _check_name(config: Config, section: str, note: Any) -> None:
    values = config.values.setdefault(section, {"name": DEFAULT_NAMES[section]} if section in DEFAULT_NAMES else None)
    registry: Registry = SECTIONS[section]
    if not isinstance(values, dict):
        return note(section, "this section is missing" if values is None else "must hold a name and settings")
    if "name" not in values and section in DEFAULT_NAMES:
        config.values[section] = values = {"name": DEFAULT_NAMES[section], **values}
    name = values.get("name")
    if not isinstance(name, str | PythonObject):
        return note(section, f"needs a name; there are: {', '.join(registry.names()) or 'none'}")
    try:
        registry.entry(name)
    except UserError as error:
        note(f"{section}.name", error)


def _check_settings(config: Config, section: str, owner: str, declared: Mapping[str, Setting], note: Any) -> None:
    values = config.values.setdefault(section, {})
    if not isinstance(values, dict):
        return note(section, "must hold settings")
    name = {"name": values["name"]} if "name" in values and section in SECTIONS else {}
    complete = {}
    for key, value in values.items():
        if key in name:
            continue
        try:
            complete[key] = check_setting(owner, declared, key, value)
        except UserError as error:
            message = str(error).removeprefix(f"{key} of {owner} ")
            if key not in declared:
                message = f"unknown setting{nearest(key, declared) or f'; {error}'}"
            note(f"{section}.{key}", message)
    for key, setting in declared.items():
        if key not in complete and setting.default is not REQUIRED:
            complete[key] = setting.default
        elif key not in values and section != "model":  # what a model needs may come from the data
            note(section, f"{owner} needs the setting {key!r}")
    config.values[section] = name | {key: complete[key] for key in declared if key in complete}


def _location(config: Config, key: str) -> str:
    while key and key not in config.locations:
        key = key.rpartition(".")[0]
    return config.locations.get(key, config.name)


def _in_order(config: Config, mistakes: list[tuple[str, str]]) -> list[tuple[str, str]]:
    def line(mistake: tuple[str, str]) -> tuple[bool, int]:
        number = _location(config, mistake[0]).rpartition(":")[2]
        return not number.isdigit(), int(number) if number.isdigit() else 0

    return sorted(mistakes, key=line)


def _run_name(sections: Mapping[str, Any]) -> str:
    """What to call a run that no file describes: by its model, and its environment or data ("net-digits")."""
    sources = [sections.get("model"), sections.get("env", sections.get("data"))]
    names = [str(section["name"]) for section in sources if isinstance(section, Mapping) and "name" in section]
    return re.sub(r"[^\w.-]+", "-", "-".join(names)).strip("-") or "run"  # "net-DataFrame-569-x-31"


def _keys(section: Any) -> list[str]:
    return list(section) if isinstance(section, dict) else []


def _plain(value: Any) -> Any:
    if isinstance(value, PythonObject):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(dotted key, old value, new value) of every setting that differs and that a resume may not change.

    Args:
        old: the values of the config that the run began with.
        new: those of the config that resumes it.
    """
    rows = []
    for section in sorted({*old, *new}):
        values, new_values = old.get(section), new.get(section)
        if not isinstance(values, Mapping) or not isinstance(new_values, Mapping):
            rows += [(section, values, new_values)] if values != new_values else []
            continue
        for key in sorted({*values, *new_values} - MAY_CHANGE_AT_RESUME.get(section, set())):
            if values.get(key) != new_values.get(key):
                rows.append((f"{section}.{key}", values.get(key), new_values.get(key)))
    return rows

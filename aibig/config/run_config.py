"""The config of a run: read with line numbers, checked against signatures, completed. Imports no torch.

Sections: `seed`, then `model`, `task`, `data`, `env`, `optimizer`, `schedule` (each a `name` with the settings of that
entry), `trainer` (the settings of `aibig.training.trainer.Trainer`) and, for a pretrained model, `finetune` (those of
`aibig.pretrained.finetune.finetune`).
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

# Settings that a resume may change: limits, logging, saving, and how data are loaded. All others change the results of
# training; a resume that changes them raises an error.
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
    """A checked config: the values of all sections, with all defaults that do not depend on data.

    Args:
        values: section -> its name and settings; "seed" -> a number.
        name: name of the run's folder.
        locations: location of each dotted key, such as "optimizer.lr" -> "configs/x.yaml:7".
        skip_initial_weights: do not read files of initial weights, since those of a checkpoint or of a finished model
            replace them.
    """

    values: dict[str, Any]
    name: str = "run"
    locations: dict[str, str] = field(default_factory=dict)
    skip_initial_weights: bool = False

    def section(self, section: str) -> dict[str, Any]:
        """The settings of a section, without its name.

        Args:
            section: name of the section, such as "optimizer".
        """
        return {key: value for key, value in self.values.get(section, {}).items() if key != "name"}

    def name_of(self, section: str) -> str | PythonObject:
        """The name in a section, or the object in place of a name.

        Args:
            section: name of the section, such as "optimizer".
        """
        name: str | PythonObject = self.values[section]["name"]
        return name

    def create(self, section: str, /, *arguments: Any, **inferred: Any) -> Any:
        """Create the object that a section describes.

        Args:
            section: name of the section, such as "model".
            arguments: positional arguments of the constructor.
            inferred: settings that the data decide, such as in_features; those that the constructor lacks are left out.

        Raises:
            UserError: a setting contradicts the data, or is refused; the error has its location.
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
        """The settings of the pretrained model in `finetune.weights`, except those that the run sets."""
        weights = self.values.get("finetune", {}).get("weights")
        if weights is None or self.skip_initial_weights:
            return {}
        with self.locating_errors("finetune"):
            settings: dict[str, Any] = import_object(PUBLISHED_SETTINGS)(self.name_of("model"), weights)
        return {key: value for key, value in settings.items() if f"model.{key}" not in self.locations}

    @contextmanager
    def locating_errors(self, section: str) -> Iterator[None]:
        """Prefix the lines of a UserError that is raised inside the `with` block with the location of a section.

        Args:
            section: name of the section that the block builds.
        """
        try:
            yield
        except UserError as error:
            location = self.locations.get(section, self.locations.get("", self.name))
            located = tuple(f"{known}: " for known in {*self.locations.values(), location})  # by an inner block
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
        """The config as the text of a file."""
        return to_yaml(self.plain())

    def plain(self) -> dict[str, Any]:
        """The values as YAML reads them: lists instead of tuples, objects described."""
        values: dict[str, Any] = _plain(self.values)
        return values


def load_config(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Config:
    """Read and check a config, and fill in defaults.

    Args:
        source: a YAML file, the name of a config that comes with aibig ("nets/digits"), or a mapping of sections. In a
            mapping, an object may stand in place of the name of data, environment or model (see `aibig.train`).
        overrides: values by dotted key, such as {"optimizer.lr": 3e-3}.

    Raises:
        UserError: there are mistakes, each on a line such as
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
    """A section with plain values; an object in place of its name is wrapped."""
    if not isinstance(section, Mapping) or "name" not in section:
        return _plain(section)
    rest = _plain({key: value for key, value in section.items() if key != "name"})
    return {"name": _wrap_object(section["name"]), **rest}


def _wrap_object(value: Any) -> Any:
    """A name unchanged, any other object as a PythonObject."""
    is_text = isinstance(value, str) and ("\n" in value or len(value) > LONGEST_NAME)
    return PythonObject(value) if is_text or not isinstance(value, str | int | float | None) else value


def find_config(source: str | Path) -> Path:
    """The file of a config.

    Args:
        source: path, or name of a config that comes with aibig.

    Raises:
        UserError: there is no such config.
    """
    path = Path(source)
    if path.is_file():
        return path
    shipped = shipped_configs()
    if str(source) in shipped:
        return shipped[str(source)]
    raise UserError(f"{source}: no such config file{nearest(str(source), shipped)} (shipped: {', '.join(shipped)})")


def shipped_configs() -> dict[str, Path]:
    """The configs that come with aibig, by name ("nets/digits"); they are in the wheel, or beside the package."""
    package = Path(__file__).parents[1]
    root = next(filter(Path.is_dir, (package / "configs", package.parent / "configs")), package)
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.glob("*/*.yaml"))}


class CommandLine(dict[str, Any]):
    """Overrides from the command line, which is their location in errors."""


def parse_overrides(words: Iterable[str]) -> CommandLine:
    """Overrides from command-line arguments, by dotted key.

    Args:
        words: arguments such as "optimizer.lr=3e-3"; values are read as YAML.

    Raises:
        UserError: an argument has no dotted key, or its value is not YAML.
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
    """Check and complete all sections, or raise a UserError with all mistakes, in the order of the file."""
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
    if not mistakes:  # reading settings imports the target, and with it torch
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
    """The named sections to check; the task decides which of `data` and `env` it reads."""
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
    """The name of a run without a config file, from its model and its environment or data ("net-digits")."""
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
        old: values of the config that the run began with.
        new: values of the config that resumes it.
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

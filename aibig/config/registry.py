"""Registries of names, with lazy imports: listing and checking names imports no model and no torch.

There is a registry for each section of a config that has a name: models, datasets, environments, tasks, optimizers,
schedules. Its entries are those of its package's table (`aibig/models/__init__.py` and so on), of installed packages
with an entry point of the group "aibig", and of decorators.
"""

from __future__ import annotations

import fnmatch
import importlib
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from aibig.config.settings import REQUIRED, Setting, check_value, import_object, read_settings
from aibig.errors import UserError, nearest

Target = TypeVar("Target", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry:
    """A registry entry: the target of a name, and what is known without importing it.

    Args:
        name: name in a config.
        target: "module:attribute", or the class or function itself.
        summary: short description, for lists.
        family: "nets", "dqn" or "language".
        head: models: path of the last layer, for fine-tuning.
        depth_order: models: paths of the blocks from input to output.
        model_type: models: the `model_type` in the config.json of published ones.
        published: models: "module:attribute" of their PublishedFormat, or that object itself.
        initial_weights: models: settings that name a file of initial weights.
        wrapper: datasets, environments: "module:attribute" of the class that batches or vectorises the target.
        sections: tasks: sections of a config that the task reads beside its own and the model's.
        signature: callable that declares the settings, if not the target.
        defaults: defaults of a preset, which differ from the declared ones.
        plugin: package of the entry; "" for aibig.
    """

    name: str
    target: str | Callable[..., Any]
    summary: str = ""
    family: str = ""
    head: str = ""
    depth_order: tuple[str, ...] = ()
    model_type: str = ""
    published: Any = ""
    initial_weights: tuple[str, ...] = ()
    wrapper: str = ""
    sections: tuple[str, ...] = ()
    signature: str | Callable[..., Any] = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    plugin: str = field(default="", compare=False)


@dataclass(frozen=True, eq=False)
class PythonObject:
    """An object in place of a name in a config; a file has a description of it.

    Args:
        value: the object.
    """

    value: Any

    def __repr__(self) -> str:
        parts = self.value if isinstance(self.value, tuple) else [self.value]
        return f"<{', '.join(_object_description(part) for part in parts)}>"


def _object_description(value: Any) -> str:
    """The same in every process: "DataFrame 569 x 31", "class Maze"."""
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{'class' if isinstance(value, type) else 'function'} {value.__qualname__}"
    name = type(value).__name__
    if isinstance(value, str):
        return f"text of {len(value):,} characters"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{name} {' x '.join(map(str, shape))}"
    return f"{name} of {len(value):,}" if isinstance(value, list | dict) else name


class Registry:
    """The entries of one kind by name: models, datasets, ....

    The package of the table imports no torch. It may have three functions beside the table: `find_entry(name)` returns
    an Entry, or None, for a name of another package (gymnasium, torchvision); `other_names()` lists such names;
    `entry_for_object(object, description)` returns an Entry for an object in place of a name.

    Args:
        kind: kind of the entries, for errors, such as "model".
        table: "package:ATTRIBUTE", a list of entries.
        positional: whether positional parameters are settings too.
        records_settings: whether created objects have an attribute `registered`: name and settings that create them
            again.
    """

    def __init__(self, kind: str, table: str, *, positional: bool = False, records_settings: bool = False) -> None:
        self.kind = kind
        self.positional = positional
        self.records_settings = records_settings
        self._package, _, self._attribute = table.partition(":")
        self._registered: list[Entry] = []
        self._entries: dict[str, Entry] | None = None

    def names(self, pattern: str = "*", *, family: str | None = None, others: bool = False) -> list[str]:
        """The names in the order of the tables.

        Args:
            pattern: pattern of the names, with * and ?.
            family: family of the entries; None: all.
            others: whether names of other packages are included.

        Raises:
            UserError: the family is unknown.
        """
        rows = [*self.entries().values(), *([self.entry(name) for name in self._other_names()] if others else [])]
        names = [row.name for row in rows if family is None or row.family == family]
        if not names and family is not None:
            families = sorted({row.family for row in rows})
            raise UserError(f"unknown family {family!r}{nearest(family, families)} (there are: {', '.join(families)})")
        return [name for name in names if fnmatch.fnmatchcase(name, pattern)]

    def entry(self, name: str | PythonObject) -> Entry:
        """The entry of a name.

        Args:
            name: name, or object in its place.

        Raises:
            UserError: the name is unknown; the error has the nearest.
        """
        entries = self.entries()
        if isinstance(name, PythonObject):
            return self._object_entry(name)
        if name in entries:
            return entries[name]
        package = importlib.import_module(self._package)
        entry: Entry | None = getattr(package, "find_entry", lambda name: None)(name)
        if entry is not None:
            return entry
        if name.startswith("<"):
            raise UserError(
                f"{name} was an object given from Python, which no file can hold; give it again: aibig.train({{...}}, "
                "out=RUN, resume=True) goes on, aibig.evaluate(RUN, OBJECT) measures, aibig.play(RUN, OBJECT) plays"
            )
        hint = nearest(name, [*entries, *self._other_names()])
        if not hint:
            listed = f"; there are: {', '.join(entries)}" if entries else ""
            hint = f"{listed}; import what registers one of your own before, from Python"
        raise UserError(f"unknown {self.kind} {name!r}{hint}")

    def __contains__(self, name: str) -> bool:
        """Whether a name is known, in the table or in another package."""
        try:
            self.entry(name)
        except UserError:
            return False
        return True

    def _other_names(self) -> Iterable[str]:
        others: Iterable[str] = getattr(importlib.import_module(self._package), "other_names", list)()
        return others

    def _object_entry(self, item: PythonObject) -> Entry:
        entry_for_object = getattr(importlib.import_module(self._package), "entry_for_object", None)
        if entry_for_object is None:
            raise UserError(f"needs a name, not {item}; there are: {', '.join(self.entries())}")
        row: Entry = entry_for_object(item.value, str(item))
        return row

    def entries(self) -> dict[str, Entry]:
        """All entries by name: of the package's table, of other packages' entry points, of decorators."""
        if self._entries is None:
            own: list[Entry] = getattr(importlib.import_module(self._package), self._attribute)
            self._entries = {}
            for row in [*own, *_plugin_rows(self._attribute), *self._registered]:
                self._add(row)
        return self._entries

    def settings(self, name: str | PythonObject) -> dict[str, Setting]:
        """The settings of the target and of the wrapper, with the defaults of a preset.

        Args:
            name: name, or object in its place.
        """
        entry = self.entry(name)
        own = read_settings(entry.signature or entry.target, positional=self.positional or bool(entry.signature))
        declared = own | (read_settings(entry.wrapper) if entry.wrapper else {})
        return declared | {key: replace(declared[key], default=value) for key, value in entry.defaults.items()}

    def defaults(self, name: str | PythonObject) -> dict[str, Any]:
        """The defaults by setting.

        Args:
            name: name, or object in its place.
        """
        settings = self.settings(name).values()
        return {setting.name: setting.default for setting in settings if setting.default is not REQUIRED}

    def check(self, name: str | PythonObject, values: Mapping[str, Any]) -> dict[str, Any]:
        """Settings converted to the declared types.

        Args:
            name: name, or object in its place.
            values: values by setting.

        Raises:
            UserError: settings are unknown, missing, or of another type; each has a line.
        """
        declared = self.settings(name)
        checked, errors = {}, []
        for key, value in values.items():
            try:
                checked[key] = check_setting(f"{self.kind} {name!r}", declared, key, value)
            except UserError as error:
                errors.append(str(error))
        missing = [key for key, setting in declared.items() if setting.default is REQUIRED and key not in values]
        errors += [f"{self.kind} {name!r} needs the setting {key!r}" for key in missing]
        if errors:
            raise UserError("\n".join(errors))
        return checked

    def create(self, name: str | PythonObject, /, *arguments: Any, **settings: Any) -> Any:
        """Create the target of a name.

        A `wrapper` is called with a function without arguments that creates the target.

        Args:
            name: name, or object in its place.
            arguments: positional arguments of the target or wrapper.
            settings: values by setting; they are checked.
        """
        entry = self.entry(name)
        checked = {**entry.defaults, **self.check(name, settings)}
        if entry.wrapper:
            wrapper = read_settings(entry.wrapper)
            source = partial(import_object(entry.target), **{k: v for k, v in checked.items() if k not in wrapper})
            wrapped = {k: v for k, v in checked.items() if k in wrapper}
            created = import_object(entry.wrapper)(source, *arguments, **wrapped)
        else:
            created = import_object(entry.target)(*arguments, **checked)
        if self.records_settings and isinstance(name, str):  # without files of initial weights
            settings = {k: v for k, v in (self.defaults(name) | checked).items() if k not in entry.initial_weights}
            created.registered = {"name": name, "settings": settings}
        elif self.records_settings and entry.wrapper:  # other defaults of an object may not be plain values
            defaults = {k: v for k, v in self.defaults(name).items() if k in wrapper}
            created.registered = {"name": str(name), "settings": defaults | checked}
        return created

    def register(self, name: str, **fields: Any) -> Callable[[Target], Target]:
        """A decorator that adds a class or function.

        Args:
            name: name in a config.
            fields: fields of `Entry`.
        """

        def add(target: Target) -> Target:
            row = Entry(name, target, plugin=getattr(target, "__module__", ""), **fields)
            self.entries()
            self._add(row)
            self._registered.append(row)
            return target

        return add

    def _add(self, row: Entry) -> None:
        assert self._entries is not None
        taken = self._entries.get(row.name)
        if taken is not None:
            owner = taken.plugin or "aibig"
            raise UserError(
                f"the {self.kind} name {row.name!r} is taken by {owner} ({_location(taken)}); "
                f"give {_location(row)} another name"
            )
        self._entries[row.name] = row


def check_setting(owner: str, declared: Mapping[str, Setting], key: str, value: Any) -> Any:
    """A value converted to the type of a setting.

    Args:
        owner: description of the target, for errors.
        declared: settings of the target.
        key: name of the setting.
        value: value that a user wrote.

    Raises:
        UserError: the setting is unknown, or of another type.
    """
    if key not in declared:
        hint = nearest(key, declared) or f"; it has: {', '.join(declared) or 'none'}"
        raise UserError(f"{owner} has no setting {key!r}{hint}")
    try:
        return check_value(value, declared[key].annotation)
    except UserError as error:
        raise UserError(f"{key} of {owner} {error}") from None


def _location(row: Entry) -> str:
    if isinstance(row.target, str):
        return row.target
    return f"{getattr(row.target, '__module__', '?')}:{getattr(row.target, '__qualname__', row.target)}"


def _plugin_rows(attribute: str) -> list[Entry]:
    """The entries of other packages: entry points of the group "aibig" name modules with the same tables."""
    rows: list[Entry] = []
    for point in importlib.metadata.entry_points(group="aibig"):
        try:
            table: list[Entry] = getattr(importlib.import_module(point.module), attribute, [])
        except ImportError as error:
            raise UserError(
                f"the installed package {point.name!r} offers models to aibig, but importing {point.module} fails: "
                f"{error}; mend or uninstall it"
            ) from error
        rows += [Entry(**{**vars(row), "plugin": point.name}) for row in table]
    return rows


models = Registry("model", "aibig.models:MODELS", positional=True, records_settings=True)
datasets = Registry("dataset", "aibig.data:DATASETS")
environments = Registry("environment", "aibig.envs:ENVIRONMENTS", positional=True, records_settings=True)
tasks = Registry("task", "aibig.tasks:TASKS")
optimizers = Registry("optimizer", "aibig.training:OPTIMIZERS")
schedules = Registry("schedule", "aibig.training:SCHEDULES")

SECTIONS = {  # registry of each named section of a config
    "model": models,
    "task": tasks,
    "data": datasets,
    "env": environments,
    "optimizer": optimizers,
    "schedule": schedules,
}


def list_models(pattern: str = "*", *, family: str | None = None) -> list[str]:
    """The names of the models, torchvision's among them. Imports no torch.

    Args:
        pattern: pattern of the names, with * and ?, such as "resnet*".
        family: family of the models: "nets", "dqn" or "language".

    Raises:
        UserError: the family is unknown.
    """
    return models.names(pattern, family=family, others=True)


def create_model(name: str, **settings: Any) -> Any:
    """Create a model, an nn.Module, by its name.

    Args:
        name: name of the model, see `list_models`.
        settings: settings of the model; `aibig describe NAME` lists them.

    Raises:
        UserError: the name or a setting is unknown, or a value is of another type.
    """
    return models.create(name, **settings)


def register_model(name: str, *, family: str, **fields: Any) -> Callable[[Target], Target]:
    """Decorator: registers an nn.Module class as a model.

    Args:
        name: name in a config.
        family: "nets", "dqn" or "language".
        fields: further fields of `Entry`, such as head and depth_order, for fine-tuning.
    """
    return models.register(name, family=family, **fields)


def register_dataset(name: str, *, wrapper: str = "arrays", **fields: Any) -> Callable[[Target], Target]:
    """Decorator: registers a function as a dataset.

    Args:
        name: name in a config.
        wrapper: result of the function: "arrays" (aibig.data.arrays.Arrays) or "text" (a text, or texts); or
            "module:attribute" of a class that makes batches of its result.
        fields: further fields of `Entry`, such as summary.
    """
    wrappers = {"arrays": "aibig.data.arrays:ArrayData", "text": "aibig.data.text.text_data:TextData"}
    return datasets.register(name, wrapper=wrappers.get(wrapper, wrapper), **fields)


def register_environment(name: str, **fields: Any) -> Callable[[Target], Target]:
    """Decorator: registers a gymnasium.Env class, or a function that returns an environment.

    Args:
        name: name in a config.
        fields: further fields of `Entry`, such as summary.
    """
    return environments.register(name, wrapper="aibig.envs.pool:EnvPool", **fields)


def register_task(name: str, *, sections: tuple[str, ...] = ("data",), **fields: Any) -> Callable[[Target], Target]:
    """Decorator: registers an `aibig.tasks.base.Task` class as a task.

    Args:
        name: name in a config.
        sections: sections of a config that the task reads beside its own and the model's.
        fields: further fields of `Entry`, such as summary.
    """
    return tasks.register(name, sections=sections, **fields)

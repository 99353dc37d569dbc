"""Names to classes, found lazily: listing, checking and misspelling import no model and no torch.

Six registries, one per section of a config that has a name: models, datasets, environments, tasks,
optimizers, schedules. Each reads its rows from the table of contents of its package (`aibig/models/__init__.py`
and so on), then from installed packages that declare the entry point group "aibig", then from decorators.
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
    """A row of a registry: what a name stands for, and what is needed before it is imported.

    Args:
        name: what a config calls it.
        target: "module:attribute", or the class or function itself.
        summary: a few words for lists.
        family: "nets", "dqn" or "language".
        head: models: path of the last layer, for fine-tuning.
        depth_order: models: paths of the blocks from input to output.
        model_type: models: the `model_type` in the config.json of published ones.
        published: models: "module:attribute" of their PublishedFormat, or that object itself.
        initial_weights: models: settings that say where initial weights are read from.
        wrapper: datasets, environments: "module:attribute" of what batches or vectorises the target.
        sections: tasks: the sections of a config that it reads beside its own and the model's.
        signature: where the settings are declared, when not at the target.
        defaults: those that differ from the declared ones, which makes a preset.
        plugin: the package that it comes from, "" for aibig's own.
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
    """An object that stands in a config in place of a name; in a file a description of it stands there.

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
    """Names of one kind and what they stand for: models, datasets, ....

    The package of the table imports no torch. Three functions beside the table extend it, where they exist:
    `find_entry(name)` returns an Entry, or None, for a name that another package keeps (gymnasium's, torchvision's);
    `other_names()` lists those; `entry_for_object(object, description)` returns an Entry for an object in place of a
    name.

    Args:
        kind: what its names are called in errors, such as "model".
        table: "package:ATTRIBUTE", a list of entries.
        positional: whether positional parameters are settings too.
        records_settings: whether what is created has an attribute `registered`, the name and the settings to create it
            again with.
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
            pattern: that they match, with * and ?.
            family: that they belong to.
            others: whether those that another package keeps are listed too.

        Raises:
            UserError: no entry belongs to the family.
        """
        rows = [*self.entries().values(), *([self.entry(name) for name in self._other_names()] if others else [])]
        names = [row.name for row in rows if family is None or row.family == family]
        if not names and family is not None:
            families = sorted({row.family for row in rows})
            raise UserError(f"unknown family {family!r}{nearest(family, families)} (there are: {', '.join(families)})")
        return [name for name in names if fnmatch.fnmatchcase(name, pattern)]

    def entry(self, name: str | PythonObject) -> Entry:
        """The row of a name.

        Args:
            name: the name, or an object in its place.

        Raises:
            UserError: there is none; with the nearest names.
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
        """Whether a name stands for something, in the table or in another package."""
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
        """All rows by name: the package's own table, other packages' entry points, decorators."""
        if self._entries is None:
            own: list[Entry] = getattr(importlib.import_module(self._package), self._attribute)
            self._entries = {}
            for row in [*own, *_plugin_rows(self._attribute), *self._registered]:
                self._add(row)
        return self._entries

    def settings(self, name: str | PythonObject) -> dict[str, Setting]:
        """The settings of its constructor and of the entry's wrapper, with the defaults of a preset.

        Args:
            name: the name, or an object in its place.
        """
        entry = self.entry(name)
        own = read_settings(entry.signature or entry.target, positional=self.positional or bool(entry.signature))
        declared = own | (read_settings(entry.wrapper) if entry.wrapper else {})
        return declared | {key: replace(declared[key], default=value) for key, value in entry.defaults.items()}

    def defaults(self, name: str | PythonObject) -> dict[str, Any]:
        """The settings that have a default, and that.

        Args:
            name: the name, or an object in its place.
        """
        settings = self.settings(name).values()
        return {setting.name: setting.default for setting in settings if setting.default is not REQUIRED}

    def check(self, name: str | PythonObject, values: Mapping[str, Any]) -> dict[str, Any]:
        """Settings converted to the declared types.

        Args:
            name: whose settings they are.
            values: the settings.

        Raises:
            UserError: settings are unknown, missing, or of another type; a line for each.
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
        """Create what a name stands for.

        An entry with a `wrapper` is wrapped: the wrapper gets a callable without arguments that creates the target.

        Args:
            name: the name, or an object in its place.
            arguments: what the kind is passed, before the settings.
            settings: checked.
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
        if self.records_settings and isinstance(name, str):  # initial weights do not make it another model
            settings = {k: v for k, v in (self.defaults(name) | checked).items() if k not in entry.initial_weights}
            created.registered = {"name": name, "settings": settings}
        elif self.records_settings and entry.wrapper:  # an object's own defaults may be anything
            defaults = {k: v for k, v in self.defaults(name).items() if k in wrapper}
            created.registered = {"name": str(name), "settings": defaults | checked}
        return created

    def register(self, name: str, **fields: Any) -> Callable[[Target], Target]:
        """A decorator that adds a class or function.

        Args:
            name: what a config calls it.
            fields: those of `Entry`.
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
        owner: whose setting it is, in words for errors.
        declared: the owner's settings.
        key: name of the setting.
        value: as a user wrote it.

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
    """The rows of other packages: entry points of the group "aibig" name modules with the same tables."""
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

SECTIONS = {  # the named sections of a config, and what each one's name is looked up in
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
        pattern: that the names match, with * and ?, such as "resnet*".
        family: that the models belong to: "nets", "dqn" or "language".

    Raises:
        UserError: the family is unknown.
    """
    return models.names(pattern, family=family, others=True)


def create_model(name: str, **settings: Any) -> Any:
    """Create a model, an nn.Module, by its name.

    Args:
        name: of the model, see `list_models`.
        settings: those of the model's constructor, with its defaults; `aibig describe NAME` lists them.

    Raises:
        UserError: the name or a setting is unknown, with the nearest, or a value is of the wrong type.
    """
    return models.create(name, **settings)


def register_model(name: str, *, family: str, **fields: Any) -> Callable[[Target], Target]:
    """Decorator: makes an nn.Module class a model that a config can name.

    Args:
        name: what a config calls it.
        family: "nets", "dqn" or "language".
        fields: more of `Entry`, such as head and depth_order, for fine-tuning.
    """
    return models.register(name, family=family, **fields)


def register_dataset(name: str, *, wrapper: str = "arrays", **fields: Any) -> Callable[[Target], Target]:
    """Decorator: makes a function a dataset that a config can name.

    Args:
        name: what a config calls it.
        wrapper: what the function returns: "arrays" (aibig.data.arrays.Arrays), "text" (a text, or texts), or
            "module:attribute" of a class that makes batches of what it returns.
        fields: more of `Entry`, such as summary.
    """
    wrappers = {"arrays": "aibig.data.arrays:ArrayData", "text": "aibig.data.text.text_data:TextData"}
    return datasets.register(name, wrapper=wrappers.get(wrapper, wrapper), **fields)


def register_environment(name: str, **fields: Any) -> Callable[[Target], Target]:
    """Decorator: makes a gymnasium.Env class, or a function that returns one, an environment that a config can name.

    Args:
        name: what a config calls it.
        fields: more of `Entry`, such as summary.
    """
    return environments.register(name, wrapper="aibig.envs.pool:EnvPool", **fields)


def register_task(name: str, *, sections: tuple[str, ...] = ("data",), **fields: Any) -> Callable[[Target], Target]:
    """Decorator: makes an `aibig.tasks.base.Task` class a way of learning that a config can name.

    Args:
        name: what a config calls it.
        sections: the sections of a config that the task reads beside its own and the model's.
        fields: more of `Entry`, such as summary.
    """
    return tasks.register(name, sections=sections, **fields)

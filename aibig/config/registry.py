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

from aibig.config.settings import REQUIRED, Setting, check, load, read_settings
from aibig.errors import UserError, nearest

Made = TypeVar("Made", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry:
    """A row of a table: what a name stands for, and the few facts needed before it is imported."""

    name: str
    target: str | Callable[..., Any]  # "module:attribute", or the class or function itself
    summary: str = ""
    family: str = ""
    head: str = ""  # models: path of the last layer, for fine-tuning
    depth_order: tuple[str, ...] = ()  # models: paths of the blocks from input to output
    model_type: str = ""  # models: what the config.json of published ones calls theirs
    first_weights: tuple[str, ...] = ()  # models: settings that say where their first weights come from
    wrapper: str = ""  # datasets, environments: "module:attribute" of what batches or vectorises the target
    sections: tuple[str, ...] = ()  # tasks: the config sections that it reads beside its own and the model's
    signature: str | Callable[..., Any] = ""  # where the settings are declared, when not at the target
    defaults: Mapping[str, Any] = field(default_factory=dict)  # that differ from those declared: a named preset
    plugin: str = field(default="", compare=False)  # the package that brought it, "" for aibig's own


@dataclass(frozen=True, eq=False)
class PythonObject:
    """An object that stands in a config in place of a name; what is written of it describes it."""

    value: Any

    def __repr__(self) -> str:
        parts = self.value if isinstance(self.value, tuple) else [self.value]
        return f"<{', '.join(_described(one) for one in parts)}>"


def _described(value: Any) -> str:
    """The same words in every process: "DataFrame 569 x 31", "class Maze"."""
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
    """One kind of named thing.

    `table` is "package:ATTRIBUTE", a list of entries in a package that imports no torch. A function `find_entry` beside
    it, name -> Entry or None, opens the registry to names that are kept elsewhere (gymnasium's, torchvision's),
    which `other_names` then lists. A function `entry_for_object`, (object, words) -> Entry, lets objects stand in place of a name.
    """

    def __init__(self, kind: str, table: str, *, positional: bool = False, remembers: bool = False) -> None:
        self.kind = kind
        self.remembers = remembers  # whether what is made carries, as `registered`, what it can be made again from
        self.positional = positional  # whether positional parameters are settings too
        self._package, _, self._attribute = table.partition(":")
        self._registered: list[Entry] = []
        self._entries: dict[str, Entry] | None = None

    def names(self, pattern: str = "*", *, family: str | None = None, others: bool = False) -> list[str]:
        """The names that match `pattern` (with * and ?), in the order of the tables; with `others`, also those
        that are kept elsewhere.
        """
        rows = [*self.entries().values(), *([self.entry(name) for name in self._other_names()] if others else [])]
        chosen = [one.name for one in rows if family is None or one.family == family]
        if not chosen and family is not None:
            families = sorted({one.family for one in rows})
            raise UserError(f"unknown family {family!r}{nearest(family, families)} (there are: {', '.join(families)})")
        return [name for name in chosen if fnmatch.fnmatchcase(name, pattern)]

    def entry(self, name: str | PythonObject) -> Entry:
        """The row of `name`, or of an object in its place. Raises UserError with the nearest names if there is none."""
        entries = self.entries()
        if isinstance(name, PythonObject):
            return self._object_entry(name)
        if name in entries:
            return entries[name]
        package = importlib.import_module(self._package)
        elsewhere = getattr(package, "find_entry", lambda name: None)(name)
        if elsewhere is not None:
            found: Entry = elsewhere
            return found
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

    def knows(self, name: str) -> bool:
        """Whether there is an entry of that name, here or elsewhere."""
        try:
            self.entry(name)
        except UserError:
            return False
        return True

    def _other_names(self) -> Iterable[str]:
        others: Iterable[str] = getattr(importlib.import_module(self._package), "other_names", list)()
        return others

    def _object_entry(self, given: PythonObject) -> Entry:
        entry_for_object = getattr(importlib.import_module(self._package), "entry_for_object", None)
        if entry_for_object is None:
            raise UserError(f"needs a name, not {given}; there are: {', '.join(self.entries())}")
        row: Entry = entry_for_object(given.value, str(given))
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
        """The settings of `name`, from its constructor's signature and that of what it goes into."""
        entry = self.entry(name)
        own = read_settings(entry.signature or entry.target, positional=self.positional or bool(entry.signature))
        declared = own | (read_settings(entry.wrapper) if entry.wrapper else {})
        return declared | {key: replace(declared[key], default=value) for key, value in entry.defaults.items()}

    def defaults(self, name: str | PythonObject) -> dict[str, Any]:
        """The settings of `name` that have a default."""
        return {key: one.default for key, one in self.settings(name).items() if one.default is not REQUIRED}

    def check(self, name: str | PythonObject, values: Mapping[str, Any]) -> dict[str, Any]:
        """`values` converted to what the signature declares. Raises UserError naming all that do not fit."""
        declared = self.settings(name)
        checked, errors = {}, []
        for key, value in values.items():
            try:
                checked[key] = check_setting(f"{self.kind} {name!r}", declared, key, value)
            except UserError as error:
                errors.append(str(error))
        missing = [one.name for one in declared.values() if one.default is REQUIRED and one.name not in values]
        errors += [f"{self.kind} {name!r} needs the setting {one!r}" for one in missing]
        if errors:
            raise UserError("\n".join(errors))
        return checked

    def create(self, name: str | PythonObject, /, *arguments: Any, **settings: Any) -> Any:
        """Make what `name` stands for. `arguments` are what its kind is handed, `settings` are checked.

        An entry with a `wrapper` is wrapped by that: the source is handed over as a callable without arguments.
        """
        entry = self.entry(name)
        checked = {**entry.defaults, **self.check(name, settings)}
        if entry.wrapper:
            wrapper = read_settings(entry.wrapper)
            source = partial(load(entry.target), **{k: v for k, v in checked.items() if k not in wrapper})
            made = load(entry.wrapper)(source, *arguments, **{k: v for k, v in checked.items() if k in wrapper})
        else:
            made = load(entry.target)(*arguments, **checked)
        if self.remembers and isinstance(name, str):  # where its first weights came from is not what it is
            settings = {k: v for k, v in (self.defaults(name) | checked).items() if k not in entry.first_weights}
            made.registered = {"name": name, "settings": settings}
        elif self.remembers and entry.wrapper:  # an object's own defaults may be anything
            known = {k: v for k, v in self.defaults(name).items() if k in wrapper}
            made.registered = {"name": str(name), "settings": known | checked}
        return made

    def register(self, name: str, **facts: Any) -> Callable[[Made], Made]:
        """A decorator that adds a class or function under `name`; `facts` are those of Entry."""

        def add(target: Made) -> Made:
            row = Entry(name, target, plugin=getattr(target, "__module__", ""), **facts)
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
    """`value` as the setting `key` of `owner` wants it. Raises UserError."""
    if key not in declared:
        hint = nearest(key, declared) or f"; it has: {', '.join(declared) or 'none'}"
        raise UserError(f"{owner} has no setting {key!r}{hint}")
    try:
        return check(value, declared[key].annotation)
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


models = Registry("model", "aibig.models:MODELS", positional=True, remembers=True)
datasets = Registry("dataset", "aibig.data:DATASETS")
environments = Registry("environment", "aibig.envs:ENVIRONMENTS", positional=True, remembers=True)
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
    """The names of the models that match `pattern` and belong to `family`, torchvision's among them. Imports no torch.

    Raises UserError for an unknown family.
    """
    return models.names(pattern, family=family, others=True)


def create_model(name: str, **settings: Any) -> Any:
    """The model that `name` stands for (an nn.Module), built with `settings`, which default as its signature says.

    Raises UserError for an unknown name or setting, with the nearest, or for a value of the wrong type.
    """
    return models.create(name, **settings)


def register_model(name: str, *, family: str, **facts: Any) -> Callable[[Made], Made]:
    """Decorator: makes an nn.Module class known by `name` in `family`, "nets", "dqn" or "language"."""
    return models.register(name, family=family, **facts)


def register_dataset(name: str, *, wrapper: str = "arrays", **facts: Any) -> Callable[[Made], Made]:
    """Decorator: makes a function that returns aibig.data.arrays.Arrays (wrapper="arrays") or text ("text") a dataset."""
    holders = {"arrays": "aibig.data.arrays:ArrayData", "text": "aibig.data.text.text_data:TextData"}
    return datasets.register(name, wrapper=holders.get(wrapper, wrapper), **facts)


def register_environment(name: str, **facts: Any) -> Callable[[Made], Made]:
    """Decorator: makes a gymnasium.Env class, or a function that returns one, an environment."""
    return environments.register(name, wrapper="aibig.envs.pool:EnvPool", **facts)


def register_task(name: str, *, sections: tuple[str, ...] = ("data",), **facts: Any) -> Callable[[Made], Made]:
    """Decorator: makes an `aibig.tasks.Task` class a way of learning that a config can name."""
    return tasks.register(name, sections=sections, **facts)

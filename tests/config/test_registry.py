"""Names, settings and their mistakes, without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import aibig
from aibig.config.registry import SECTIONS, Entry, Registry, models
from aibig.config.run_config import UNNAMED_SECTIONS
from aibig.config.settings import REQUIRED, Unreadable, check_value, read_settings, type_description


def run_python(code: str, cwd: Path) -> str:
    """What `code` prints in a fresh process."""
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, check=True, capture_output=True, text=True).stdout


def test_listing_and_misspelling_import_no_torch(tmp_path: Path) -> None:
    code = """
import sys, aibig
aibig.list_models()
for wrong in ({"model": {"name": "nett"}}, {"modell": {"name": "net"}, "model": {"name": "net", "hiden": 3}}):
    try:
        aibig.load_config({**wrong, "task": {"name": "classification"}, "data": {"name": "digits"}})
        print("accepted")
    except aibig.UserError:
        pass
heavy = {"torch", "numpy", "sklearn", "gymnasium", "torchvision", "tokenizers"} & set(sys.modules)
print(sorted(heavy))
"""
    assert run_python(code, tmp_path) == "[]\n"


def test_listing_by_pattern_and_family() -> None:
    assert aibig.list_models("ls*", family="language") == ["lstm"]
    assert set(aibig.list_models(family="nets")) >= {"net"}
    with pytest.raises(aibig.UserError, match="did you mean 'language'"):
        aibig.list_models(family="languag")


def test_unknown_names_and_settings_name_the_nearest() -> None:
    with pytest.raises(aibig.UserError, match="did you mean 'transformer'"):
        aibig.create_model("tranformer")
    with pytest.raises(aibig.UserError, match="no setting 'hiden'; did you mean 'hidden'"):
        aibig.create_model("net", hiden=3)
    with pytest.raises(aibig.UserError, match="hidden of model 'net' must be a whole number, at least 1"):
        aibig.create_model("net", hidden=0)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_entry_can_be_imported_and_its_settings_checked(section: str) -> None:
    registry = SECTIONS[section]
    for name in registry.names():
        entry = registry.entry(name)
        assert entry.summary and entry.name == name
        for key, setting in registry.settings(name).items():
            assert setting.annotation is not Any and not isinstance(setting.annotation, Unreadable), f"{name}: {key}"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_of_an_entry_has_a_line_on_it(section: str) -> None:
    registry = SECTIONS[section]
    settings = {(name, key): value for name in registry.names() for key, value in registry.settings(name).items()}
    assert not [key for key, setting in settings.items() if not setting.about]


@pytest.mark.parametrize("target", UNNAMED_SECTIONS.values())
def test_every_setting_of_a_section_has_a_line_on_it(target: str) -> None:
    assert not [key for key, setting in read_settings(target).items() if not setting.about]


def test_a_decorated_class_is_a_model_like_any_other() -> None:
    @aibig.register_model("my_net", family="nets")
    class MyNet(nn.Module):
        def __init__(self, in_features: int, out_features: int = 2) -> None:
            super().__init__()
            self.layer = nn.Linear(in_features, out_features)

    try:
        assert "my_net" in aibig.list_models(family="nets")
        assert aibig.create_model("my_net", in_features=3).layer.weight.shape == (2, 3)
        assert models.settings("my_net")["in_features"].default is REQUIRED
        with pytest.raises(aibig.UserError, match="'in_features'"):
            aibig.create_model("my_net")
        with pytest.raises(aibig.UserError, match="is taken by"):
            aibig.register_model("my_net", family="nets")(MyNet)
        with pytest.raises(aibig.UserError, match="is taken by aibig"):
            aibig.register_model("net", family="nets")(MyNet)
    finally:
        models._registered.clear()
        models._entries = None


def test_an_installed_package_brings_models_by_entry_point(tmp_path: Path) -> None:
    (tmp_path / "other_package.py").write_text(
        "from aibig.config.registry import Entry\n"
        "MODELS = [Entry('theirs', 'their_models:Theirs', 'their net', family='nets')]\n"
    )
    (tmp_path / "their_models.py").write_text(
        "from torch import nn\n"
        "class Theirs(nn.Linear):\n"
        "    def __init__(self, *, in_features: int = 3, out_features: int = 2):\n"
        "        super().__init__(in_features, out_features)\n"
    )
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[aibig]\nother = other_package\n")
    code = """
import sys; sys.path.insert(0, ".")
import aibig
print("theirs" in aibig.list_models(family="nets"), "torch" in sys.modules, aibig.create_model("theirs", in_features=5))
"""
    expected = "True False Theirs(in_features=5, out_features=2, bias=True)\n"
    assert run_python(code, tmp_path) == expected


def test_an_annotation_is_read_however_its_module_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for future in ("", "from __future__ import annotations\n"):
        name = f"mine_{len(future)}"
        (tmp_path / f"{name}.py").write_text(
            f"{future}import typing as t\nKind = t.Literal['a', 'b']\nWIDTH = 7\n"
            "class It:\n"
            "    def __init__(\n"
            "        self, *, mode: t.Literal['a', 'b'] = 'a', kind: Kind | None = None, width: int = WIDTH\n"
            "    ): ...\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        settings = read_settings(f"{name}:It")
        assert [type_description(setting.annotation) for setting in settings.values()] == [
            *("one of 'a', 'b'", "one of 'a', 'b' or null", "a whole number")
        ]
        assert settings["width"].default == 7
        with pytest.raises(aibig.UserError, match="must be one of 'a', 'b', not 'zzz'"):
            check_value("zzz", settings["mode"].annotation)


def test_an_annotation_that_cannot_be_read_checks_nothing_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "for_types_alone.py").write_text(
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from decimal import Decimal\n"
        "class It:\n    def __init__(self, *, width: int = 1, price: Decimal | None = None): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("thing", "aibig.models:MODELS")
    registry._entries = {"it": Entry("it", "for_types_alone:It")}
    assert registry.check("it", {"width": 2}) == {"width": 2}
    with pytest.raises(aibig.UserError, match="price of thing 'it' can't be checked: its annotation 'Decimal"):
        registry.check("it", {"price": 3})


def test_settings_of_a_base_class_are_shared_where_the_constructor_takes_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "with_bases"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "head.py").write_text(
        "class Root:\n"
        "    def __init__(self, *, deepest: int = 1, atoms: bool = True): ...\n"
        "class Head(Root):\n"
        '    """A head.\n\n    Args:\n        atoms: of a distribution.\n        hidden: width.\n    """\n\n'
        "    def __init__(self, features, *, atoms: int = 51, hidden: int = 8, **more): ...\n"
    )
    (package / "net.py").write_text(
        "from with_bases.head import Head as Base\n"
        "class Net(Base):\n"
        '    """A net.\n\n    Args:\n        hidden: width of the net.\n    """\n\n'
        "    def __init__(self, given, *, hidden: float = 2.0, **more): ...\n"
        "class Closed(Base):\n"
        "    def __init__(self, *, hidden: int = 3): ...\n"
        "def function(*, width: int = 4, **more): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for positional in (False, True):
        parsed = read_settings("with_bases.net:Net", positional=positional)
        assert {name: setting.default for name, setting in parsed.items()} == {
            **({"given": REQUIRED} if positional else {}),
            **{"hidden": 2.0, "atoms": 51, "deepest": 1},
        }
        assert parsed["atoms"].annotation is int and parsed["atoms"].about == "of a distribution."
        assert parsed["hidden"].annotation is float and parsed["hidden"].about == "width of the net."
    assert list(read_settings("with_bases.net:Closed")) == ["hidden"]
    assert list(read_settings("with_bases.net:function")) == ["width"]


def test_the_trainer_checks_its_settings_from_python_too() -> None:
    for wrong in ({"max_steps": -1}, {"max_steps": 5, "log_every": 0}, {"max_steps": 5, "precision": "bf61"}):
        with pytest.raises(aibig.UserError, match=f"{list(wrong)[-1]} must be"):
            aibig.Trainer(**wrong)


def test_a_setting_of_an_inherited_constructor_keeps_its_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "somewhere.py").write_text(
        "from typing import Literal\n"
        "class Base:\n"
        "    def __init__(self, before, *, size: int | None = None, kind: Literal['a', 'b'] = 'a'): ...\n"
        "class Child(Base): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = read_settings("somewhere:Child")
    assert list(settings) == ["size", "kind"] and settings["kind"].default == "a"
    registry = Registry("thing", "aibig.models:MODELS")
    registry._entries = {"child": Entry("child", "somewhere:Child")}
    with pytest.raises(aibig.UserError, match="kind of thing 'child' must be one of 'a', 'b', not 'c'"):
        registry.check("child", {"kind": "c"})
    assert registry.check("child", {"size": 1e3}) == {"size": 1000}

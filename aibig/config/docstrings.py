"""Reads the section `Args:` of a docstring in Google's style. Knows no signature."""

from __future__ import annotations

import inspect
import re

SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Note", "Example", "References")
_HEADER = re.compile(rf"^({'|'.join(SECTIONS)}):$")
_ENTRY = re.compile(r"^ {4}(\*{0,2}\w+)(?: \([^)]*\))?: (.*)$")


def parameter_docs(docstring: str | None) -> dict[str, str]:
    """The text of each parameter in the section `Args:`, as one line, by name.

    Args:
        docstring: docstring, or None.

    Returns:
        Name, without stars -> text; empty without such a section.
    """
    docs: dict[str, str] = {}
    inside, name = False, ""
    for line in inspect.cleandoc(docstring or "").splitlines():
        if header := _HEADER.match(line):
            inside = header[1] == "Args"
        elif line and not line.startswith(" "):
            inside = False
        elif inside and (entry := _ENTRY.match(line)):
            name = entry[1].lstrip("*")
            docs[name] = entry[2]
        elif inside and name and line.startswith(" " * 6):
            docs[name] += f" {line.strip()}"
    return docs


def without_parameters(docstring: str | None) -> str:
    """A docstring without its section `Args:`.

    Args:
        docstring: docstring, or None.
    """
    rest: list[str] = []
    inside = False
    for line in inspect.cleandoc(docstring or "").splitlines():
        if header := _HEADER.match(line):
            inside = header[1] == "Args"
        elif line and not line.startswith(" "):
            inside = False
        if not inside:
            rest.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(rest)).strip()

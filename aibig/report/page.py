"""An HTML page in one file: inline style and figures, no script, no request to anywhere. Knows no run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from aibig.errors import UserError
from aibig.files import write_text

LONG_TEXT = 40  # characters of a cell beyond which its column is broken into lines

CSS = """
:root { color-scheme: light dark; --ground: #ffffff; --card: #f6f7f9; --ink: #1b1f24; --soft: #59636e;
  --line: #d5dae0; --accent: #1f6feb; }
@media (prefers-color-scheme: dark) { :root { --ground: #15171c; --card: #1d2026; --ink: #e6e9ee; --soft: #9aa4b0;
  --line: #343a43; --accent: #6ea8fe; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 1.5rem clamp(.8rem, 3vw, 2rem) 3rem; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .8rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; } figure h3 { margin-top: 0; }
p { margin: .5rem 0; } .soft, figcaption { color: var(--soft); font-size: .9rem; }
.warning { border-left: 4px solid #d9701e; background: var(--card); padding: .6rem .9rem; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); }
figure { margin: 0; padding: .8rem; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  min-width: 0; } figure.wide { grid-column: 1 / -1; }
figure svg, figure img { display: block; width: 100%; height: auto; max-height: 760px; }
figure img { max-width: 480px; margin: auto; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .95rem; }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: normal; }
th { font-weight: 600; color: var(--soft); white-space: nowrap; } td.number { text-align: right; white-space: nowrap; }
th.number { text-align: right; } th.words { font-weight: 600; } tbody tr:first-child td { border-top: 0; }
td { white-space: nowrap; } td.words { white-space: normal; min-width: 15rem; color: var(--soft); }
pre { margin: 0; padding: .8rem; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  overflow-x: auto; font: .85rem/1.45 ui-monospace, monospace; white-space: pre-wrap; }
.samples b { font-weight: 600; color: var(--accent); }
summary { cursor: pointer; color: var(--accent); margin: .5rem 0; }
"""


def write_page(file: Path, title: str, subtitle: str, parts: Sequence[str]) -> Path:
    """Write a page.

    Args:
        file: where it goes.
        title: text.
        subtitle: text.
        parts: HTML, one below the other.

    Returns:
        The file.

    Raises:
        UserError: the file can't be written.
    """
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n<style>{CSS}</style>\n</head>\n<body>\n'
        f'<header><h1>{escape(title)}</h1><p class="soft">{escape(subtitle)}</p></header>\n'
        + with_unique_ids("\n".join(part for part in parts if part))
        + "\n</body>\n</html>\n"
    )
    try:
        write_text(file, page)
    except OSError as error:
        raise UserError(f"{file}: the page can't be written ({error.strerror or error}); name another file") from None
    return file


def with_unique_ids(html: str) -> str:
    """HTML in which no two <svg> elements use the same id, as figures made one by one do.

    Args:
        html: of a page.
    """
    number = itertools.count(1)

    def with_prefix(svg: re.Match[str]) -> str:
        return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>p{next(number)}-", svg[0])

    return re.sub(r"<svg.*?</svg>", with_prefix, html, flags=re.DOTALL)


def section(title: str, *parts: str) -> str:
    """A heading and what stands under it; nothing at all if nothing does.

    Args:
        title: text of the heading.
        parts: HTML; empty ones are left out.
    """
    content = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph.

    Args:
        text: its text.
        kind: "soft", "warning", or "" for a plain one.
    """
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def grid(*figures: str) -> str:
    """Figures side by side, as many as fit.

    Args:
        figures: HTML.
    """
    return f'<div class="grid">{"".join(figures)}</div>' if any(figures) else ""


def figure(title: str, image: str, caption: str = "", *, wide: bool = False) -> str:
    """An image with its title and caption, which screen readers read too.

    Args:
        title: text above it.
        image: an <svg> element or a data URI.
        caption: text below it.
        wide: whether it takes all of a grid's width.
    """
    title = title[:1].upper() + title[1:]
    alternative = escape(f"{title}. {caption}".strip())
    if image.startswith("<svg"):
        content = image.replace("<svg", f'<svg role="img" aria-label="{alternative}"', 1)
    else:
        content = f'<img src="{image}" alt="{alternative}">'
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    kind = ' class="wide"' if wide else ""
    return f"<figure{kind}><h3>{escape(title)}</h3>{content}{below}</figure>"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table. A column with a number is aligned right, one with a long text is broken into lines.

    Args:
        header: of each column.
        rows: cells of text or numbers; None is an empty cell.
    """
    if not rows:
        return ""
    kinds = [column_kind([row[column] for row in rows]) for column in range(len(header))]
    heads = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(header, kinds, strict=True))
    texts = ([escape(format_value(value)) for value in row] for row in rows)
    cells = ([f"<td{kind}>{text}</td>" for text, kind in zip(row, kinds, strict=True)] for row in texts)
    body = "".join(f"<tr>{''.join(row)}</tr>\n" for row in cells)
    return f'<div class="table"><table><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def column_kind(values: Sequence[Any]) -> str:
    """The class attribute of a column's cells.

    Args:
        values: in the column.
    """
    if any(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return ' class="number"'
    return ' class="words"' if any(len(format_value(value)) > LONG_TEXT for value in values) else ""


def format_value(value: Any) -> str:
    """A value as text: four or so digits of a number, nothing for None.

    Args:
        value: number, text, bool or None.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        size = abs(value)
        digits = 4 if size < 10 else 2 if size < 1_000 else 0
        return f"{value:,.{digits}f}" if size >= 0.001 or not size else f"{value:.4g}"
    return str(value)


def readable(name: str) -> str:
    """A logged name in words.

    Args:
        name: of a number in the log, such as "gradient_norm".
    """
    return "learning rate" if name == "lr" else name.replace("_", " ")


def details(title: str, content: str) -> str:
    """What is shown on a click.

    Args:
        title: text to click on.
        content: HTML.
    """
    return f"<details><summary>{escape(title)}</summary>{content}</details>" if content else ""


def code(text: str) -> str:
    """Text as it is typed.

    Args:
        text: its text.
    """
    return f"<pre>{escape(text)}</pre>"

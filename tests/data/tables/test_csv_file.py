"""CSV files: the dialect is inferred, rows come as text or typed, and errors name the line that a row begins on."""

from __future__ import annotations

from pathlib import Path

import pytest

from aibig.data.tables.csv_file import line_of, read_cells, read_frame, sniff_dialect
from aibig.errors import UserError


@pytest.mark.parametrize(
    ("content", "separator", "decimal"),
    [("a,b\n1.5,x\n", ",", "."), ("a\tb\n1.5\tx\n", "\t", "."), ("a;b\n1,5;x\n", ";", ","), ("a|b\n1.5|x\n", "|", ".")],
)
def test_the_dialect_is_inferred(content: str, separator: str, decimal: str) -> None:
    Path("x.csv").write_text(content)
    assert sniff_dialect("x.csv") == (["a", "b"], separator, decimal)
    assert read_frame("x.csv").to_dict("list") == {"a": [1.5], "b": ["x"]}


def test_rows_of_text_keep_quotation_marks_between_tabs_only() -> None:
    Path("x.tsv").write_text('a, "b"\t1\n\n"\n')
    assert read_cells("x.tsv") == [(1, ['a, "b"', "1"]), (3, ['"'])]
    Path("x.csv").write_text('"a, ""b""",1\n,\nc\n')
    assert read_cells("x.csv") == [(1, ['a, "b"', "1"]), (3, ["c"])]


def test_a_line_is_where_a_row_begins() -> None:
    Path("x.csv").write_text('a,b\n1,"x\ny"\n\n2,z\n')
    assert [line_of("x.csv", row, ",") for row in (-1, 0, 1)] == [1, 2, 5]
    assert line_of("x.csv", 1, ",", has_header=False) == 2


def test_cells_that_are_too_long_to_be_read_are_refused_with_their_line() -> None:
    Path("x.csv").write_text("a,b\n" + "x" * 200_000 + ",1\n")
    with pytest.raises(UserError, match=r"^x\.csv:2: is not a line of a CSV file: field larger than"):
        read_cells("x.csv")

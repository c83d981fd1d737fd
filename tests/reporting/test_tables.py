import csv
import io
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcsam_med.escape import FORMULA_STARTS, csv_cell, plain_cell
from gcsam_med.preparation.store import write_table
from gcsam_med.reading import read_csv
from gcsam_med.reporting.tables import frame_to_csv, safe_cell, to_csv


@given(
    st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2), max_size=5)
)
def test_no_text_cell_is_a_formula_and_every_cell_comes_back(rows):
    """Oracle: Python's csv reader, and OWASP's list of characters that make a spreadsheet run a cell."""
    text = to_csv(["a", "b"], rows)
    read = list(csv.reader(io.StringIO(text, newline="")))[1:]
    assert len(read) == len(rows)
    for given_row, read_row in zip(rows, read, strict=True):
        for cell, found in zip(given_row, read_row, strict=True):
            plain = re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", " ", cell)
            assert not found.lstrip().startswith(FORMULA_STARTS)
            assert found in (plain, f"'{plain}")


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (-1.5, "-1.5"),
        (None, ""),
        (float("nan"), ""),
        ("=1+1", "'=1+1"),
        ("-x", "'-x"),
        (0.1 + 0.2, "0.30000000000000004"),
    ],
)
def test_cells_by_hand(value, cell):
    """Oracle: by hand; negative numbers stay numbers, floats stay exact."""
    assert safe_cell(value) == cell


def test_a_frame_comes_back_from_pandas_unchanged():
    """Oracle: pandas reads what was written."""
    frame = pd.DataFrame({"case": ["a", 'b,"c"'], "dice": [1 / 3, None], "n": [1, 2]})
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(frame_to_csv(frame))), frame)


@given(st.text())
def test_text_that_looks_like_a_formula_comes_back(text):
    """Oracle: the text itself, apostrophes of its own included."""
    assert plain_cell(csv_cell(text)) == text
    assert not csv_cell(text).lstrip().startswith(FORMULA_STARTS)


def test_a_manifest_holds_no_formula_and_comes_back(tmp_path):
    """Oracle: OWASP's list, in the bytes of the file; the texts as they were."""
    table = pd.DataFrame({"case_id": ["=1+1", "'@x", "a"], "=name": ["-2", "+x", ""], "height": [3, 4, 5]})
    write_table(tmp_path / "manifest.csv", table)
    cells = (tmp_path / "manifest.csv").read_text().replace("\n", ",").split(",")
    assert not [cell for cell in cells if cell.startswith(FORMULA_STARTS)]
    read = read_csv(tmp_path / "manifest.csv", [], "").map(plain_cell).rename(columns=plain_cell)
    pd.testing.assert_frame_equal(read, table.astype(str))

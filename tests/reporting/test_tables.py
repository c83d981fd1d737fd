import csv
import io
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcsam_med.reporting.tables import FORMULA_STARTS, frame_to_csv, safe_cell, to_csv


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

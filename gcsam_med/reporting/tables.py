"""Tables as CSV that a spreadsheet opens without running anything."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from gcsam_med.escape import csv_cell

if TYPE_CHECKING:
    import pandas as pd

# Tabs and line ends make some spreadsheets look for a formula after them; no name needs any of these.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def safe_cell(value: Any) -> str:
    """Write a value as a cell; text that a spreadsheet would run gets a leading apostrophe.

    Parameters
    ----------
    value : object
        A number is written as it is; None and NaN become empty; control characters become spaces.

    Returns
    -------
    str
        The cell's text, before CSV quoting.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return csv_cell(_CONTROL.sub(" ", value))
    return str(value)


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write a table as CSV (RFC 4180, UTF-8, LF line ends) with `safe_cell` in every place."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([safe_cell(column) for column in columns])
    writer.writerows([[safe_cell(value) for value in row] for row in rows])
    return text.getvalue()


def frame_to_csv(table: pd.DataFrame) -> str:
    """Write a data frame as CSV, without its index; floats in their shortest exact form."""
    rows = zip(*(table[column].tolist() for column in table.columns), strict=True)
    return to_csv([str(column) for column in table.columns], rows)

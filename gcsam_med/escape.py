"""Text from others (names, paths, classes, messages) made safe for what it is written into.

Each kind of output has its own rule; the text is escaped where it leaves the program, never before.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any


def printable(text: str) -> str:
    """Show control characters, line ends and lone surrogates as escapes, so that text stays on its line."""
    return "".join(
        c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else ascii(c)[1:-1] for c in text
    )


# A cell that begins so is run as a formula by spreadsheets (OWASP, CSV injection).
FORMULA_STARTS = ("=", "+", "-", "@", "|", "%")


def csv_cell(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would run."""
    return f"'{text}" if _is_formula(text) else text


def plain_cell(text: str) -> str:
    """Undo `csv_cell`."""
    return text[1:] if text.startswith("'") and _is_formula(text[1:]) else text


def _is_formula(text: str) -> bool:
    # Apostrophes in front are looked through, so that text which has its own comes back as it was.
    return text.lstrip().lstrip("'").lstrip().startswith(FORMULA_STARTS)


def markdown(value: Any) -> Any:
    """Escape text for Markdown, in a paragraph or a table: no HTML, link, code or line of its own.

    What is not text, or is `markupsafe.Markup`, stays as it is.
    """
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    text = printable(value).replace("&", "&amp;").replace("<", "&lt;").replace("`", "'")
    return re.sub(r"([\[\]|])", r"\\\1", text)

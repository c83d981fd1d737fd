import builtins

import pytest

from gcsam_med.errors import MissingExtra
from gcsam_med.reporting.figures import draw_all
from gcsam_med.reporting.html import report_html
from gcsam_med.reporting.pdf import to_pdf
from tests.builders import report_of


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_report_becomes_a_pdf_with_its_pictures():
    """Oracle: the file's first and last bytes; without its pictures it would be a tenth as large."""
    pytest.importorskip("weasyprint", exc_type=ImportError)
    report = report_of("segmentation")
    data = to_pdf(report_html(report, draw_all(report), themed=False))
    assert data.startswith(b"%PDF-")
    assert data.rstrip().endswith(b"%%EOF")
    assert len(data) > 50_000


def test_without_weasyprint_the_extra_is_named(monkeypatch):
    """Oracle: the contract, exit code 3 and the command that installs it."""
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("weasyprint"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtra) as caught:
        to_pdf("<p>x</p>")
    assert caught.value.exit_code == 3
    assert "gcsam-med[pdf]" in caught.value.advice

"""The report as PDF, for those who must attach one."""

from __future__ import annotations

from gcsam_med.errors import MissingExtra


def to_pdf(html: str) -> bytes:
    """Print a report to PDF, A4.

    Parameters
    ----------
    html : str
        From `report_html`; it holds all it needs, so nothing is fetched.

    Returns
    -------
    bytes
        The PDF.

    Raises
    ------
    MissingExtra
        If WeasyPrint is not installed.
    """
    try:
        from weasyprint import HTML
        from weasyprint.urls import URLFetcher
    except (ImportError, OSError) as error:  # OSError: Pango is not there
        raise MissingExtra("Writing a PDF", "pdf") from error

    return HTML(string=html, url_fetcher=URLFetcher(allowed_protocols=("data",))).write_pdf()

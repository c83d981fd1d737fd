"""From a report's data to its files: report.html, metrics.json, cases.csv, figures and tables."""

from gcsam_med.reporting.report import Report
from gcsam_med.reporting.write import metrics_json, write_comparison, write_report

__all__ = ["Report", "metrics_json", "write_comparison", "write_report"]

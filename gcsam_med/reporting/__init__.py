"""From a report's data to its files: report.html, metrics.json, cases.csv, figures and tables."""

from gcsam_med.reporting.metrics_json import metrics_json
from gcsam_med.reporting.report import Report
from gcsam_med.reporting.write import write_report

__all__ = ["Report", "metrics_json", "write_report"]

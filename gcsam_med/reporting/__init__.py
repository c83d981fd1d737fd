"""From a report's data to its files: report.html, metrics.json, cases.csv, figures and tables."""

"""A local page in the browser: runs, cases, predictions to review, arms side by side, and an image to try.

Everything is read through `gcsam_med.reading`; what a request names is looked up in tables of ids and never
used as a path. Starlette serves it (extra: view); the templates stand beside those of the reports.
"""

"""From a trained run to files that other programs read without gcsam-med."""

from gcsam_med.inference.export.export import FORMATS, Exported, export_run

__all__ = ["FORMATS", "Exported", "export_run"]

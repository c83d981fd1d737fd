"""Predictions as DICOM objects: segmentations and structured reports."""

from gcsam_med.inference.dicom.write import DicomOutput, dicom_output

__all__ = ["DicomOutput", "dicom_output"]

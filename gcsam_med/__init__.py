"""Train and honestly evaluate networks on breast ultrasound and chest X-rays with GCSAM, SAM or Adam."""

__version__ = "0.1.0"

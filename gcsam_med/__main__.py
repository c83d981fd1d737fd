"""``python -m gcsam_med`` is ``gcsam-med`` (torchrun starts it so)."""

from gcsam_med.cli import main

if __name__ == "__main__":
    main()

"""``python -m gcsam_med`` is ``gcsam-med`` (torchrun starts it so)."""

import sys

if __name__ == "__main__":
    # Before any other import: modules in the working directory must not hide those that are installed.
    if not sys.flags.safe_path:
        sys.path.append(sys.path.pop(0))
    from gcsam_med.cli import main

    main()

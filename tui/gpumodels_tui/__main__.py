"""Runs the viewer by `python -m gpumodels_tui`."""

import sys

from gpumodels_tui.cli import main

if __name__ == "__main__":
    sys.exit(main())

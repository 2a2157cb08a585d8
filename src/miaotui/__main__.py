"""`python -m miaotui`."""

import sys

from miaotui.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""python -m aiopark."""

import sys

from aiopark._cli import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m cachekit``: the command `cachekit`."""

import sys

from cachekit._cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m seekr_tune.cli`."""

import sys

from seekr_tune.cli import main

if __name__ == "__main__":
    sys.exit(main())

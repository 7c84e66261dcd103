"""``python -m pgpool`` is the pgpool command."""

import sys

from pgpool.cli.pgpool import main

sys.exit(main())

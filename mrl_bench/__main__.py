"""`python -m mrl_bench` is `mrl-bench`."""

import sys

from mrl_bench.cli.main import main

sys.exit(main())

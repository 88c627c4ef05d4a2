"""`python -m edgecore.cli`."""

from __future__ import annotations

import sys

from edgecore.cli.main import main

sys.exit(main())

"""Fixtures of the client's tests. Helper modules of this folder are imported by their bare names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from client_stub import stub

__all__ = ["stub"]

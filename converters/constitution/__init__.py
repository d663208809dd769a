"""Constitutional examples: a request, a bad answer, what is wrong with it, and a good one.

Written by hand in parts (`parts/`), composed by a seed: `python -m converters.constitution`.
"""

from __future__ import annotations

"""`python few_items.py FOLDER`: the evaluation of a job over the suites in $FEW_ITEMS.

What a test changes in its own process reaches no child. The processes that ask are spawned: each
loads this file anew, and so has the same suites.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from trainer.evaluate import main
from trainer.gates import sample

sample.SUITES = Path(os.environ["FEW_ITEMS"])

if __name__ == "__main__":
    sys.exit(main())

"""python -m aibig.train --config FILE [--out DIR] [--resume] [--seeds N] [--check] [--json] [section.setting=value ...]

The command `aibig train` by the name that people know; from Python `aibig.train` is the function.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from aibig.cli import main

    sys.exit(main(["train", *sys.argv[1:]], prog="python -m aibig.train"))

from aibig.runs.train import train

sys.modules[__name__] = train  # type: ignore[assignment]  # so that `import aibig.train` too leaves the function there

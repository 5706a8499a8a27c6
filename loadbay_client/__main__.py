"""The command `loadbay`, also as `python -m loadbay_client`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command. Without click, say what to install."""
    try:
        from .cli import loadbay
    except ModuleNotFoundError as e:
        if e.name != "click":
            raise
        sys.exit("The command 'loadbay' needs click and tqdm: pip install 'loadbay-client[cli]'")
    loadbay(prog_name="loadbay")


if __name__ == "__main__":
    main()

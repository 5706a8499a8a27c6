"""`python -m loadbay_client`: the upload command without Flask."""

from __future__ import annotations

import click

from .cli import upload

main = click.Group("loadbay_client", commands=[upload], help="Upload files to a Loadbay service.")

if __name__ == "__main__":
    main(prog_name="python -m loadbay_client")

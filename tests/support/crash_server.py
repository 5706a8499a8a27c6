"""A service that kills itself: `python tests/support/crash_server.py PORT [POINT]`, settings from the environment.

POINT is an operation inside the service and a side of it, such as `copy:after`. At the first such call the process
ends with SIGKILL, so that nothing is closed, written or logged.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from werkzeug.serving import make_server

from app import create_app
from storage.s3.bucket import Bucket
from storage.uploads import tracks, verification

OPERATIONS = {
    "finalize": (verification._Verification, "_finalize_one"),
    "respond": (verification._Verification, "_outcomes"),
    "end": (tracks, "end"),
    "register": (tracks, "register"),
    "copy": (Bucket, "copy"),
    "remove": (Bucket, "delete_objects"),
    "create_multipart": (Bucket, "create_multipart_upload"),
    "complete_multipart": (Bucket, "complete_multipart_upload"),
    "abort_multipart": (Bucket, "abort_multipart_upload"),
}


def arm(point: str) -> None:
    """Make the process kill itself at `point`."""
    name, side = point.split(":")
    owner, attribute = OPERATIONS[name]
    original = getattr(owner, attribute)

    def call(*args: Any, **kwargs: Any) -> Any:
        if side == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, attribute, call)


if __name__ == "__main__":
    app = create_app()
    if len(sys.argv) > 2:
        arm(sys.argv[2])
    make_server("127.0.0.1", int(sys.argv[1]), app, threaded=True).serve_forever()

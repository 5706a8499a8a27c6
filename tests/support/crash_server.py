"""A service that kills itself: `python tests/support/crash_server.py PORT [POINT]`, settings from the environment.

POINT names a call inside the service and a side of it, such as `bucket.copy:after`; at the first such call the
process ends as by SIGKILL, with nothing closed, written or said.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from werkzeug.serving import make_server

from app import create_app
from storage.s3.bucket import Bucket
from storage.uploads import tracks

PLACES = {
    "move": (tracks, "transition"),
    "copy": (Bucket, "copy"),
    "remove": (Bucket, "remove"),
    "begin": (Bucket, "create_multipart_upload"),
    "join": (Bucket, "complete_multipart_upload"),
    "abort": (Bucket, "abort_multipart_upload"),
    "insert": (tracks, "register"),
}


def arm(point: str) -> None:
    """Make the service end at `point`."""
    name, side = point.split(":")
    owner, attribute = PLACES[name]
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

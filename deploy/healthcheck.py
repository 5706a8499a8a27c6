"""Whether the service in this container answers: exit status 0 or 1. Docker asks every few seconds; see Dockerfile."""

import os
import sys
from http.client import HTTPConnection, HTTPException

connection = HTTPConnection("127.0.0.1", int(os.environ.get("PORT", "8000")), timeout=4)
try:
    connection.request("GET", "/healthz")
    # Where TRUSTED_HOSTS does not have this name the answer is 400, which shows as well that there is one to answer.
    sys.exit(connection.getresponse().status >= 500)
except (OSError, HTTPException) as e:
    sys.exit(f"No answer: {e}")

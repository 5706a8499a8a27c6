"""The container's health check: exit status 0 if the service responds, else 1. See HEALTHCHECK in Dockerfile."""

import os
import sys
from http.client import HTTPConnection, HTTPException

connection = HTTPConnection("127.0.0.1", int(os.environ.get("PORT", "8000")), timeout=4)
try:
    connection.request("GET", "/healthz")
    # If TRUSTED_HOSTS does not list this address the status is 400, which also proves that the service responds.
    sys.exit(connection.getresponse().status >= 500)
except (OSError, HTTPException) as e:
    sys.exit(f"No response: {e}")

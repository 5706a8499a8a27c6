"""The way that needs no session and no signature: a Flask route that takes a file and passes it on to the store."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from flask import Flask, request
from minio import Minio

app = Flask(__name__)
store = Minio(
    urlsplit(os.environ["S3_ENDPOINT"]).netloc,
    os.environ["AWS_ACCESS_KEY_ID"],
    os.environ["AWS_SECRET_ACCESS_KEY"],
    secure=False,
    region="us-east-1",
)


@app.put("/files/<name>")
def upload(name: str) -> dict[str, bool]:
    """Put the request's body into the bucket, under this name."""
    store.put_object(os.environ["S3_BUCKET"], name, request.stream, request.content_length or -1)
    return {"ok": True}

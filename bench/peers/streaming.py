"""A Flask route that takes a file and relays it to the store, without session or signature."""

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
    """Store the request's body in the bucket under this name."""
    length = request.content_length or -1
    store.put_object(os.environ["S3_BUCKET"], name, request.stream, length)  # type: ignore[arg-type]
    return {"ok": True}

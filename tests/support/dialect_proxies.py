"""Proxies in front of the run's store that take an ability from it, as other stores lack it."""

from __future__ import annotations

import re
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

from support.fault_proxy import Answer, FaultProxy, operation_of
from support.store import BUCKET, Bucket


class StoreProxy(FaultProxy):
    """A proxy with its own access to the store, for requests whose signature it would break."""

    def __init__(self, endpoint: str):
        super().__init__(endpoint)
        self.bucket = Bucket(endpoint)

    def key_of(self, request: BaseHTTPRequestHandler) -> str:
        """Return the key that a request is about."""
        return unquote(urlsplit(request.path).path).removeprefix(f"/{BUCKET}/")


class EtaglessProxy(StoreProxy):
    """Plays a store that tells no ETags of objects, such as JuiceFS's gateway without --keep-etag."""

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        """Send the request to the store, and its response without ETags; parts keep theirs."""
        status, headers, content = super().forward(request, body)
        if operation_of(request.command, request.path) == "ListParts" or "partNumber" in request.path:
            return Answer(status, headers, content)
        headers = {name: value for name, value in headers.items() if name.lower() != "etag"}
        return Answer(status, headers, re.sub(rb"<ETag>.*?</ETag>", b"", content))


class UnconditionalCopyProxy(StoreProxy):
    """Plays a store that copies whatever is there, such as rclone: it ignores the condition of a copy."""

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        """Copy without the condition, and send any other request to the store."""
        source = request.headers.get("x-amz-copy-source")
        if source is None:
            return super().forward(request, body)
        options = {"MetadataDirective": "REPLACE", "ContentType": request.headers["Content-Type"]}
        source_key = unquote(source).removeprefix(f"/{BUCKET}/")
        result = self.bucket.s3.copy_object(
            Bucket=BUCKET, Key=self.key_of(request), CopySource={"Bucket": BUCKET, "Key": source_key}, **options
        )
        etag = result["CopyObjectResult"]["ETag"].encode()
        return Answer(200, {}, b"<CopyObjectResult><ETag>%s</ETag></CopyObjectResult>" % etag)


class CredulousProxy(StoreProxy):
    """Plays a store that keeps and tells the checksum that it was sent, and compares it with nothing."""

    def __init__(self, endpoint: str):
        super().__init__(endpoint)
        self.checksums: dict[str, dict[str, str]] = {}

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        """Write the body unchecked, and tell the checksum that came with it."""
        key = self.key_of(request)
        sent = {name: value for name, value in request.headers.items() if name.lower().startswith("x-amz-checksum-")}
        if request.command == "PUT" and sent and "x-amz-copy-source" not in request.headers:
            self.checksums[key] = sent
            return Answer(200, {"ETag": self.bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=body)["ETag"]}, b"")
        status, headers, content = super().forward(request, body)
        headers = {name: value for name, value in headers.items() if not name.lower().startswith("x-amz-checksum-")}
        return Answer(status, {**headers, **self.checksums.get(key, {})}, content)


class LastWriteWinsProxy(StoreProxy):
    """Plays a store that ignores If-None-Match, such as JuiceFS's gateway."""

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        """Write the body whatever is there, and send any other request to the store."""
        if request.command == "PUT" and request.headers.get("If-None-Match"):
            key = self.key_of(request)
            return Answer(200, {"ETag": self.bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=body)["ETag"]}, b"")
        return super().forward(request, body)


class UnsealedPartsProxy(StoreProxy):
    """Plays a store in which a part that comes late changes the object, such as Swift's `s3api`."""

    def __init__(self, endpoint: str):
        super().__init__(endpoint)
        self.completed: set[str] = set()

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        """Write a part of a completed upload in the object's place, and send any other request to the store."""
        upload_id = parse_qs(urlsplit(request.path).query).get("uploadId", [""])[0]
        if request.command == "PUT" and upload_id in self.completed:
            self.bucket.s3.put_object(Bucket=BUCKET, Key=self.key_of(request), Body=body)
            return Answer(200, {"ETag": '"0"'}, b"")
        answer = super().forward(request, body)
        if request.command == "POST" and upload_id and answer.status == 200:
            self.completed.add(upload_id)
        return answer


class PageProxy(StoreProxy):
    """Plays a store that answers with a page what is not signed, such as Swift."""

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        """Answer a request for the root with a page, and send any other to the store."""
        if request.path == "/":
            return Answer(404, {"Content-Type": "text/html"}, b"<html><h1>Not Found</h1></html>")
        return super().forward(request, body)


class UnlistableProxy(StoreProxy):
    """Plays a store that lists neither objects nor uploads, nor deletes several at once, such as a small fake."""

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        """Reject listings and batches, and send any other request to the store."""
        parts = urlsplit(request.path)
        if parts.path.rstrip("/") == f"/{BUCKET}" and request.command in ("GET", "POST") and "policy" not in str(body):
            return Answer(501, {"Content-Type": "application/xml"}, b"<Error><Code>NotImplemented</Code></Error>")
        return super().forward(request, body)


DENIED = Answer(403, {"Content-Type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>")
EXISTS = Answer(412, {"Content-Type": "application/xml"}, b"<Error><Code>PreconditionFailed</Code></Error>")


class ConditionalWritesProxy(StoreProxy):
    """Plays a bucket whose policy demands If-None-Match of whatever creates an object, as Amazon S3's can.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html
    """

    def __init__(self, endpoint: str):
        super().__init__(endpoint)
        self.denied: list[str] = []

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        """Deny what would create an object without the condition, and copy on condition."""
        query = urlsplit(request.path).query
        is_part, is_form = "partNumber=" in query, request.command == "POST" and not query
        completes = request.command == "POST" and "uploadId=" in query
        creates = (request.command == "PUT" and not is_part and self.key_of(request)) or is_form or completes
        if creates and request.headers.get("If-None-Match") != "*":
            self.denied.append(operation_of(request.command, request.path))
            return DENIED
        # The store behind has the condition of PUT alone.
        if creates and (completes or "x-amz-copy-source" in request.headers) and self.exists(self.key_of(request)):
            return EXISTS
        return super().forward(request, body)

    def exists(self, key: str) -> bool:
        """Return whether there is an object."""
        return self.bucket.get(key) is not None


class LockedProxy(StoreProxy):
    """Plays a store that does not delete one locked object, and knows no deletion of several."""

    locked = ""

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        """Deny the deletion of the locked object."""
        if request.command == "DELETE" and self.key_of(request) == self.locked:
            return DENIED
        return super().forward(request, body)


NO_DIGEST = Answer(
    400,
    {"Content-Type": "application/xml"},
    b"<Error><Code>InvalidRequest</Code><Message>Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object "
    b"requests with Object Lock parameters</Message></Error>",
)


class DigestProxy(StoreProxy):
    """Plays a bucket with Object Lock and default retention: what is written needs a digest, but for copies and parts.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html
    """

    takes_forms = False

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        """Reject a PUT or a form without a digest, and send any other request to the store."""
        names, query = {name.lower() for name in request.headers}, urlsplit(request.path).query
        has_digest = "content-md5" in names or any(name.startswith("x-amz-checksum-") for name in names)
        is_put = request.command == "PUT" and "x-amz-copy-source" not in names and "partNumber=" not in query
        is_form = request.command == "POST" and not query and not self.takes_forms
        if (is_put or is_form) and not has_digest:
            return NO_DIGEST
        return super().forward(request, body)


class KmsProxy(FaultProxy):
    """Plays a bucket with encryption by KMS: the ETags of parts look like MD5s, and are none."""

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        """Reverse the ETags of parts, and say that they are encrypted."""
        operation = operation_of(request.command, request.path)
        if operation == "CompleteMultipartUpload":
            body = re.sub(rb'(?<=<ETag>")[0-9a-f]{32}', lambda match: match[0][::-1], body)
        status, headers, content = super().forward(request, body)
        if operation == "ListParts":
            content = re.sub(rb"[0-9a-f]{32}(?=(\"|&#34;|&quot;)?</ETag>)", lambda match: match[0][::-1], content)
        if "partNumber=" in request.path and "ETag" in headers:
            etag = headers["ETag"].strip('"')[::-1]
            headers = {**headers, "ETag": f'"{etag}"', "x-amz-server-side-encryption": "aws:kms"}
        return Answer(status, headers, content)

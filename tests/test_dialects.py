"""The dialects of S3: one meaning for the answers of different stores, whatever form they have.

Each case is an answer of a real store, or of a proxy in front of one; a small server plays it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from urllib.parse import quote_plus

import pytest

from storage.errors import StorageUnavailable
from storage.s3 import dialects
from storage.s3.choices import Choices
from storage.s3.dialects import ErrorResponse
from storage.s3.errors import StorageBusy, StorageFault, StorageRejected, StorageUnsupported
from support.fake_store import Reply, fake_store

pytestmark = pytest.mark.sqlite

XML = b'<?xml version="1.0" encoding="UTF-8"?>'
NAMESPACE = b'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
COPIED = XML + b"<CopyObjectResult><ETag>&quot;%s&quot;</ETag></CopyObjectResult>"
JOINED = XML + b"<CompleteMultipartUploadResult><ETag>&quot;0c-2&quot;</ETag></CompleteMultipartUploadResult>"


def error(code, extra=b""):
    """Return the document of an error."""
    return XML + b"<Error><Code>%s</Code><Message>No.</Message>%s</Error>" % (code, extra)


def reply_to(call, *replies):
    """Call a method of a bucket whose store gives these replies in turn, the last one again; return its result."""
    remaining = list(replies)

    def answer(_request):
        return remaining.pop(0) if len(remaining) > 1 else remaining[0]

    with fake_store(answer) as (bucket, _):
        return call(bucket)


def outcome(call, *replies):
    """Return what a call to the store comes to: its result, or the class of its error."""
    try:
        return reply_to(call, *replies)
    except (StorageRejected, StorageUnavailable) as e:
        return type(e)


# --- Errors -----------------------------------------------------------------------------------------------------------

AS_XML, AS_TEXT = {"Content-Type": "application/xml"}, {"Content-Type": "text/xml; charset=utf-8"}
PLAIN, PAGE = {"Content-Type": "text/plain"}, {"Content-Type": "text/html"}

ERRORS = {
    "S3": (Reply(403, error(b"AccessDenied"), AS_XML), StorageRejected),
    "rclone: text/xml": (Reply(403, error(b"AccessDenied"), AS_TEXT), StorageRejected),
    "text/xml, no such key": (Reply(404, error(b"NoSuchKey"), AS_TEXT), None),
    "no Content-Type": (Reply(404, error(b"NoSuchKey")), None),
    "whitespace in front": (Reply(404, b"\n  " + error(b"NoSuchKey"), AS_XML), None),
    "a namespace": (Reply(404, error(b"NoSuchKey").replace(b"<Error>", b"<Error %s>" % NAMESPACE), AS_XML), None),
    "404 without a body": (Reply(404), None),
    "404 of plain text": (Reply(404, b"404 page not found", PLAIN), None),
    "403 without a body": (Reply(403), StorageRejected),
    "401 without a body": (Reply(401), StorageRejected),
    "400 without a body": (Reply(400), StorageFault),
    "501": (Reply(501, error(b"NotImplemented"), AS_XML), StorageUnsupported),
    "501 without a body": (Reply(501), StorageUnsupported),
    "405 without a body": (Reply(405), StorageUnsupported),
    "MinIO: XNotImplemented": (Reply(400, error(b"XNotImplemented"), AS_XML), StorageUnsupported),
    "500 with a code of its own": (Reply(500, error(b"SomethingElse"), AS_XML), StorageBusy),
    "502 of a gateway": (Reply(502, b"<html>bad gateway</html>", PAGE), StorageBusy),
    "503 without a body": (Reply(503), StorageBusy),
    "429 without a body": (Reply(429), StorageBusy),
    "a code that is none": (Reply(403, error(b"a <!-- --> code\n" * 50), AS_XML), StorageRejected),
    "an error that ends early": (Reply(403, b"<Error><Code>Acc", AS_XML), StorageRejected),
}  # fmt: skip


@pytest.mark.parametrize(("reply", "expected"), ERRORS.values(), ids=ERRORS)
def test_errors_have_one_meaning(reply, expected):
    """An error means the same whatever its Content-Type, and if it has no body."""
    assert outcome(lambda bucket: bucket.stat_and_read("a", 10), reply) == expected


@pytest.mark.parametrize("status", [404, 403, 400, 405, 501, 503])
def test_errors_of_head_are_read_from_the_status(status):
    """HEAD has no body: its status tells what the code would."""
    expected = {404: None, 403: StorageRejected, 400: StorageFault, 405: StorageUnsupported, 501: StorageUnsupported}
    assert outcome(lambda bucket: bucket.head("a"), Reply(status)) == expected.get(status, StorageBusy)


CALLS_WITH_DOCUMENTS = {
    "copy": lambda bucket: bucket.copy("a", "b", "0c", "audio/mpeg"),
    "complete": lambda bucket: bucket.complete_multipart_upload("a", "u", [dialects.Part(1, "0c", None, 5)]),
    "delete": lambda bucket: bucket.delete_objects(["a", "b"]),
    "list": lambda bucket: list(bucket.list_objects("")),
    "list parts": lambda bucket: bucket.list_parts("a", "u"),
    "create": lambda bucket: bucket.create_multipart_upload("a", None),
}


@pytest.mark.parametrize("call", CALLS_WITH_DOCUMENTS.values(), ids=CALLS_WITH_DOCUMENTS)
def test_status_200_may_hold_an_error(call):
    """A response with status 200 whose document is an error is that error."""
    assert outcome(call, Reply(200, error(b"AccessDenied"), AS_XML)) is StorageRejected
    assert outcome(call, Reply(200, b"\n \n" + error(b"InternalError"), AS_XML)) is StorageBusy


def test_slow_down_waits_as_long_as_the_store_asks():
    """A retry comes no earlier than Retry-After."""
    started = time.monotonic()
    replies = Reply(503, error(b"SlowDown"), {"Retry-After": "1"}), Reply(404)
    assert reply_to(lambda bucket: bucket.head("a"), *replies) is None
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize(("value", "expected"), [("120", 120), ("99999", dialects.MAX_RETRY_AFTER), ("soon", 5)])
def test_long_retry_after_is_left_to_the_caller(value, expected):
    """A pause that is longer than the time for retries is passed on, within bounds, without another request."""
    with fake_store(lambda _: Reply(503, error(b"SlowDown"), {"Retry-After": value})) as (bucket, requests):
        with pytest.raises(StorageBusy) as raised:
            bucket.stat_and_read("a", 10)
        assert raised.value.retry_after == expected
        assert (len(requests) == 1) is (value != "soon")


# --- Regions ----------------------------------------------------------------------------------------------------------

REDIRECTS = {
    "301 with a header": Reply(301, b"", {"x-amz-bucket-region": "eu-west-1"}),
    "307 with a header": Reply(307, b"", {"x-amz-bucket-region": "eu-west-1", "Location": "http://127.0.0.1:9/"}),
    "400 of HEAD with a header": Reply(400, b"", {"x-amz-bucket-region": "eu-west-1"}),
    "400 with an element": Reply(400, error(b"AuthorizationHeaderMalformed", b"<Region>eu-west-1</Region>"), AS_XML),
}


@pytest.mark.parametrize("redirect", REDIRECTS.values(), ids=REDIRECTS)
@pytest.mark.parametrize(
    "call",
    [
        lambda bucket: bucket.stat_and_read("a", 10),
        lambda bucket: bucket.copy("a", "b", "0c", "audio/mpeg"),
    ],
)
def test_another_region_is_followed_once(redirect, call):
    """A request is signed again for the region that the store names, and later ones from the start."""

    def answer(request):
        signed = request.headers.get("Authorization", "") + request.query.get("X-Amz-Credential", "")
        return Reply(404) if "/eu-west-1/" in signed else redirect

    with fake_store(answer) as (bucket, requests):
        assert [call(bucket), call(bucket)] == [None, None]
        assert (len(requests), bucket.region) == (3, "eu-west-1")


def test_redirects_do_not_go_round():
    """A store that names another region each time is asked twice."""
    regions = iter(["eu-west-1", "eu-west-2", "eu-west-3"])
    with fake_store(lambda _: Reply(301, b"", {"x-amz-bucket-region": next(regions)})) as (bucket, requests):
        assert outcome_of(bucket.head, "a") is StorageRejected
        assert len(requests) == 2


def outcome_of(method, *arguments):
    """Return the result of a method, or the class of its error."""
    try:
        return method(*arguments)
    except (StorageRejected, StorageUnavailable) as e:
        return type(e)


def test_region_unknown_to_the_store_is_left_out():
    """Ceph creates a bucket without a location where it does not know the region's name."""

    def answer(request):
        if request.method == "HEAD":
            return Reply(404)
        return Reply(400, error(b"InvalidLocationConstraint"), AS_XML) if request.body else Reply(200)

    with fake_store(answer) as (bucket, requests):
        bucket._sign_for("eu-nowhere-1")
        assert bucket.create_if_missing() is True
        assert [bool(request.body) for request in requests] == [False, True, False]


@pytest.mark.parametrize(("listing", "expected"), [(200, True), (403, StorageRejected)])
def test_bucket_exists_for_a_key_that_lists_only_a_prefix(listing, expected):
    """HeadBucket is 403 for a key whose ListBucket is bound to a prefix: then a listing of that prefix decides."""
    body = XML + b"<ListBucketResult></ListBucketResult>"
    with fake_store(lambda request: Reply(403) if request.method == "HEAD" else Reply(listing, body)) as (bucket, _):
        assert outcome_of(bucket.exists) == expected


# --- ETags, sizes and dates -------------------------------------------------------------------------------------------

MODIFIED = {"Last-Modified": "Thu, 31 Jan 2030 12:00:00 GMT"}
ETAGS = {
    "quoted": ({"ETag": '"0cc1"'}, "0cc1"),
    "of parts": ({"ETag": '"0cc1-2"'}, "0cc1-2"),
    "without quotes": ({"ETag": "0cc1"}, "0cc1"),
    "lower case header": ({"etag": '"0cc1"'}, "0cc1"),
    "weakened by a proxy": ({"ETag": 'W/"0cc1"'}, "0cc1"),
    "base64": ({"ETag": '"+/aB=="'}, "+/aB=="),
    "JuiceFS: none": ({}, "weak:3:1896091200"),
    "empty": ({"ETag": '""'}, "weak:3:1896091200"),
}


@pytest.mark.parametrize(("headers", "expected"), ETAGS.values(), ids=ETAGS)
def test_etags_of_any_form(headers, expected):
    """An ETag is known by what is between its quotes; an object without one by its size and time of change."""
    reply = Reply(200, b"", {"Content-Length": "3", **MODIFIED, **headers})
    assert reply_to(lambda bucket: bucket.head("a"), reply).etag == expected
    ranged = Reply(206, b"abc", {"Content-Range": "bytes 0-2/3", "Content-Length": "3", **MODIFIED, **headers})
    info, head = reply_to(lambda bucket: bucket.stat_and_read("a", 10), ranged)
    assert (info.etag, head) == (expected, b"abc")


@pytest.mark.parametrize("etag", ["a" * 300, '"a b"', '"\x7f"'])
def test_unusable_etags_are_a_fault(etag):
    """An ETag that could not be sent back is no ETag, and not taken for none."""
    assert (
        outcome(lambda bucket: bucket.head("a"), Reply(200, b"", {"Content-Length": "3", "ETag": etag})) is StorageFault
    )


@pytest.mark.parametrize(("etag", "condition"), [("0cc1", '"0cc1"'), ("weak:3:1", None)])
def test_condition_of_a_copy_is_sent_for_etags_only(etag, condition):
    """An identifier of our own is no ETag, and never sent as one."""
    with fake_store(lambda _: Reply(200, COPIED % b"0cc1")) as (bucket, requests):
        assert bucket.copy("a", "b", etag, "audio/mpeg").etag == "0cc1"
        assert requests[0].headers.get("x-amz-copy-source-if-match") == condition


def test_copy_without_an_etag_is_a_copy():
    """JuiceFS tells no ETag of a copy, either."""
    reply = Reply(200, XML + b"<CopyObjectResult><LastModified>2030-01-31T12:00:00Z</LastModified></CopyObjectResult>")
    assert reply_to(lambda bucket: bucket.copy("a", "b", "0cc1", "audio/mpeg"), reply).etag is None


def test_ranges_may_come_with_status_200():
    """Rclone sends the range that was requested, but not as partial content."""
    reply = Reply(200, b"cde", {"Content-Range": "bytes 2-4/9", "Content-Length": "3", "ETag": '"0c"'})
    assert reply_to(lambda bucket: bucket.read_range("a", "0c", 2, 3), reply) == b"cde"


def test_ranges_are_not_left_to_conditions():
    """Rclone answers 412 to every If-Match: the ETag of the response is compared instead."""
    reply = Reply(206, b"cde", {"Content-Range": "bytes 2-4/9", "Content-Length": "3", "ETag": '"0c"'})
    with fake_store(lambda _: reply) as (bucket, requests):
        bucket.read_range("a", "0c", 2, 3)
        assert "If-Match" not in requests[0].headers


def test_head_without_a_length_is_completed_by_a_range():
    """A proxy that compresses leaves out the length of a HEAD; a range of one byte has it."""

    def answer(request):
        if request.method == "HEAD":
            return Reply(200, b"", {"ETag": '"0c"', "Content-Type": "audio/mpeg"})
        return Reply(206, b"a", {"Content-Range": "bytes 0-0/1234", "Content-Length": "1", "ETag": '"0c"'})

    with fake_store(answer) as (bucket, _):
        info = bucket.head("a")
        assert (info.size, info.etag, info.content_type) == (1234, "0c", "audio/mpeg")


@pytest.mark.parametrize(("asks", "expected"), [(False, None), (True, "ENABLED")])
def test_head_asks_for_checksums_only_where_that_is_answered(asks, expected):
    """Backblaze rejects a HEAD with x-amz-checksum-mode: it is sent to stores that are known to answer it."""
    with fake_store(lambda _: Reply(404)) as (bucket, requests):
        bucket.choices = Choices(asks_checksums=asks)
        bucket.head("a")
        assert requests[0].headers.get("x-amz-checksum-mode") == expected


DATES = ("2030-01-31T12:00:00Z", "2030-01-31T12:00:00.5Z", "2030-01-31T12:00:00.500Z", "2030-01-31T12:00:00.500000000Z",
         "2030-01-31T13:00:00.50+01:00", "2030-01-31T12:00:00", "Thu, 31 Jan 2030 12:00:00 GMT")  # fmt: skip


@pytest.mark.parametrize("text", DATES)
def test_dates_of_any_precision(text):
    """A time is read whatever its precision and offset."""
    assert dialects.parse_date(text).replace(microsecond=0) == datetime(2030, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize("text", [None, "", "yesterday", "2030-13-31T12:00:00Z", "9" * 5000])
def test_unreadable_dates_are_none(text):
    """A time that cannot be read is no fault."""
    assert dialects.parse_date(text) is None


# --- Listings ---------------------------------------------------------------------------------------------------------

KEYS = ("a b.mp3", "a+b.mp3", "100%.mp3", "a%2Bb.mp3", "ünï 音.mp3", "x&y<z>.mp3")


def escaped(text):
    """Return text as XML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").encode()


def listing(keys, more=False, marker="", encoded=True):
    """Return a page of ListObjectsV2."""
    items = b"".join(
        b"<Contents><Key>%s</Key><LastModified>2030-01-31T12:00:00.123456789Z</LastModified><ETag>&quot;0c&quot;</ETag>"
        b"<Size>3</Size></Contents>" % escaped(quote_plus(key, safe="/") if encoded else key)
        for key in keys
    )
    token = b"<NextContinuationToken>%s</NextContinuationToken>" % escaped(marker) if marker else b""
    encoding = b"<EncodingType>url</EncodingType>" if encoded else b""
    truncated = b"<IsTruncated>%s</IsTruncated>" % (b"true" if more else b"false")
    return XML + b"<ListBucketResult %s>%s</ListBucketResult>" % (NAMESPACE, encoding + truncated + token + items)


@pytest.mark.parametrize("encoded", [True, False])
def test_listed_keys_are_decoded_if_they_are_encoded(encoded):
    """A key with `+`, `%`, a space or other letters is the same in a listing, encoded or not."""
    items = reply_to(lambda bucket: list(bucket.list_objects("")), Reply(200, listing(KEYS, encoded=encoded)))
    assert [item.key for item in items] == list(KEYS)


@pytest.mark.parametrize("marker", ["a token+/=", ""])
def test_object_pages_have_any_size(marker):
    """A store may send less than it was asked for: the next page is asked for by its token, or else by the last key."""

    def answer(request):
        start = request.query.get("continuation-token", request.query.get("start-after", ""))
        rest = sorted(KEYS) if not start else sorted(KEYS)[sorted(KEYS).index(start.removeprefix(marker)) + 1 :]
        return Reply(200, listing(rest[:1], len(rest) > 1, marker and marker + rest[0]))

    with fake_store(answer) as (bucket, requests):
        assert [item.key for item in bucket.list_objects("")] == sorted(KEYS)
        assert len(requests) == len(KEYS)


def uploads_page(items, markers=(), more=False):
    """Return a page of ListMultipartUploads."""
    uploads = b"".join(
        b"<Upload><Key>%s</Key><UploadId>%s</UploadId><Initiated>2030-01-31T12:00:00Z</Initiated></Upload>"
        % (quote_plus(key).encode(), upload_id.encode())
        for key, upload_id in items
    )
    sent = b"".join(b"<%s>%s</%s>" % (name.encode(), value.encode(), name.encode()) for name, value in markers)
    truncated = b"<EncodingType>url</EncodingType><IsTruncated>%s</IsTruncated>" % (b"true" if more else b"false")
    return XML + b"<ListMultipartUploadsResult>%s</ListMultipartUploadsResult>" % (truncated + sent + uploads)


UPLOADS = [("a b/1.mp3", "u1"), ("a b/1.mp3", "u2"), ("c+d.mp3", "u0"), ("e.mp3", "u9")]


@pytest.mark.parametrize("sent", [("NextKeyMarker", "NextUploadIdMarker"), ("NextUploadIdMarker",), ()])
def test_upload_pages_have_any_size(sent):
    """The next page is asked for by whatever markers the store tells, or else by the last upload.

    SeaweedFS lists in an order of its own, and tells only one of them.
    """

    def answer(request):
        query = request.query
        assert "delimiter" not in query
        known = {"NextKeyMarker": query.get("key-marker"), "NextUploadIdMarker": query.get("upload-id-marker")}
        assert {name for name, value in known.items() if value} <= set(sent or known)
        start = 0 if not any(known.values()) else next(
            number + 1 for number, item in enumerate(UPLOADS) if item[1] == known["NextUploadIdMarker"]
        )  # fmt: skip
        key, upload_id = UPLOADS[start]
        values = {"NextKeyMarker": quote_plus(key), "NextUploadIdMarker": upload_id}
        return Reply(200, uploads_page([UPLOADS[start]], [(name, values[name]) for name in sent], start < 3))

    with fake_store(answer) as (bucket, requests):
        listed = [(upload.key, upload.upload_id) for upload in bucket.list_multipart_uploads("")]
        assert (listed, len(requests)) == (UPLOADS, len(UPLOADS))


def test_listing_ends_where_a_store_repeats_itself():
    """A store that ignores the markers does not keep the service listing for ever."""
    with fake_store(lambda _: Reply(200, uploads_page(UPLOADS, (), True))) as (bucket, requests):
        assert [upload.upload_id for upload in bucket.list_multipart_uploads("")] == ["u1", "u2", "u0", "u9"]
        assert len(requests) == 2


@pytest.mark.parametrize("tells_marker", [True, False])
def test_part_pages_have_any_size(tells_marker):
    """Parts are listed to the last one, also by a store that sends them one by one."""

    def answer(request):
        number = int(request.query.get("part-number-marker", "0")) + 1
        marker = b"<NextPartNumberMarker>%d</NextPartNumberMarker>" % number if tells_marker else b""
        more = b"<IsTruncated>%s</IsTruncated>" % (b"true" if number < 3 else b"false")
        part = b"<Part><PartNumber>%d</PartNumber><ETag>0c</ETag><Size>5</Size></Part>" % number
        return Reply(200, XML + b"<ListPartsResult>%s</ListPartsResult>" % (more + marker + part))

    with fake_store(answer) as (bucket, _):
        assert [part.part_number for part in bucket.list_parts("a", "u")] == [1, 2, 3]


@pytest.mark.parametrize("reply", [Reply(404, error(b"NoSuchUpload"), AS_XML), Reply(404)])
def test_parts_of_an_unknown_upload_are_none(reply):
    """An upload that does not exist has no parts, which is no error."""
    assert reply_to(lambda bucket: bucket.list_parts("a", "u"), reply) is None


def test_objects_are_deleted_one_by_one_where_batches_are_unknown():
    """A store without DeleteObjects gets a request for each object."""

    def answer(request):
        return Reply(501) if request.method == "POST" else Reply(204)

    with fake_store(answer) as (bucket, requests):
        assert bucket.delete_objects(["a", "b"]) == {}
        assert [request.method for request in requests] == ["POST", "DELETE", "DELETE"]
        bucket.choices = Choices(batch_delete=False)
        bucket.delete_objects(["a"])
        assert requests[-1].method == "DELETE"


def test_undeleted_objects_are_reported():
    """The errors of a batch are returned by key, but for objects that are gone already."""
    item = b"<Error><Key>%s</Key><Code>%s</Code></Error>"
    body = b"<DeleteResult>%s</DeleteResult>" % (item % (b"a", b"AccessDenied") + item % (b"b", b"NoSuchKey"))
    assert reply_to(lambda bucket: bucket.delete_objects(["a", "b"]), Reply(200, body)) == {"a": "AccessDenied"}


def test_error_names_its_operation(caplog):
    """An error's cause has the store's code and the operation, and the log has both."""
    with fake_store(lambda _: Reply(403, error(b"AccessDenied"), AS_TEXT)) as (bucket, _):
        with pytest.raises(StorageRejected) as raised:
            bucket.head("a")
        cause = raised.value.__cause__
        assert isinstance(cause, ErrorResponse)
        assert (cause.operation, cause.code, cause.status) == ("HeadObject", "AccessDenied", 403)
    assert "S3 HeadObject failed" in caplog.text

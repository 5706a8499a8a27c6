"""The permissions that `flask doctor --policy` prints: what the service needs, and no more."""

from __future__ import annotations

import json
import signal

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from app import create_app
from dev.store import Store, free_port
from storage.measuring.probing import PERMISSIONS
from storage.s3.policy import iam_policy
from storage.settings import Settings
from support.api import complete, new_session, new_track
from support.sample_files import wav
from support.store import ACCESS_KEY, ADMIN_KEY, BUCKET, SECRET_KEY, put

pytestmark = pytest.mark.sqlite

AWS = {"S3_ENDPOINT": "https://s3.eu-west-1.amazonaws.com", "S3_BUCKET": "tracks", "S3_REGION": "eu-west-1"}
OPERATORS = {"s3:CreateBucket", "s3:GetBucketVersioning"}
"""Permissions that only an operator needs, or that are of use without being needed."""


def policy_of(**settings):
    """Return the statements of the policy for settings, by their names."""
    return {statement["Sid"]: statement for statement in iam_policy(Settings.load({**AWS, **settings}))["Statement"]}


def test_policy_allows_what_the_service_requests_and_no_more():
    """The actions are those of the requests that the service sends."""
    needed = {name for text in PERMISSIONS.values() for name in text.split(" and ")}
    allowed = {action for statement in policy_of().values() for action in statement["Action"]}
    assert allowed == needed - OPERATORS
    assert {statement["Effect"] for statement in policy_of().values()} == {"Allow"}


def test_policy_is_bound_to_bucket_and_prefix():
    """Objects are those below the prefix, and listings too; a missing object is no 403."""
    statements = policy_of(S3_PREFIX="up/")
    assert statements["LoadbayObjects"]["Resource"] == "arn:aws:s3:::tracks/up/*"
    assert statements["LoadbayBucket"]["Resource"] == "arn:aws:s3:::tracks"
    assert statements["LoadbayBucket"]["Condition"] == {"StringLikeIfExists": {"s3:prefix": "up/*"}}
    assert "Condition" not in policy_of()["LoadbayBucket"]


KEY = "1234abcd-12ab-34cd-56ef-1234567890ab"
KEY_ARN = f"arn:aws:kms:eu-west-1:111122223333:key/{KEY}"


@pytest.mark.parametrize(
    ("key", "resource", "alias"),
    [
        (KEY, f"arn:aws:kms:eu-west-1:*:key/{KEY}", None),
        (KEY_ARN, KEY_ARN, None),
        ("alias/music", "*", "alias/music"),
        ("arn:aws:kms:eu-west-1:111122223333:alias/music", "*", "alias/music"),
    ],
)
def test_policy_allows_the_use_of_a_key(key, resource, alias):
    """A KMS key of one's own may be used to encrypt and decrypt."""
    statement = policy_of(S3_SSE="aws:kms", S3_SSE_KMS_KEY_ID=key)["LoadbayKey"]
    assert (statement["Action"], statement["Resource"]) == (["kms:GenerateDataKey", "kms:Decrypt"], resource)
    condition = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": alias}} if alias else None
    assert statement.get("Condition") == condition


@pytest.mark.parametrize("settings", [{}, {"S3_SSE": "AES256"}, {"S3_SSE": "aws:kms"}])
def test_policy_without_a_key_of_ones_own_has_no_statement_for_it(settings):
    """S3's own keys need no permission."""
    assert "LoadbayKey" not in policy_of(**settings)


def test_policy_allows_tags_if_objects_get_any():
    """Tags need a permission of their own."""
    assert "s3:PutObjectTagging" in policy_of(S3_TAGGING="team=audio")["LoadbayObjects"]["Action"]


def test_policy_names_an_access_point_and_the_partition():
    """Through an access point the resources are its ARN and the objects behind it; China has ARNs of its own."""
    point = {"S3_ENDPOINT": "https://s3-accesspoint.eu-west-1.amazonaws.com", "S3_ADDRESSING": "virtual"}
    statements = policy_of(**point, S3_BUCKET="music-111122223333")
    arn = "arn:aws:s3:eu-west-1:111122223333:accesspoint/music"
    assert statements["LoadbayObjects"]["Resource"] == f"{arn}/object/*"
    assert statements["LoadbayBucket"]["Resource"] == arn
    china = policy_of(S3_ENDPOINT="https://s3.cn-north-1.amazonaws.com.cn", S3_REGION="cn-north-1")
    assert china["LoadbayBucket"]["Resource"] == "arn:aws-cn:s3:::tracks"


def run_policy(settings, *options):
    """Run the command, and return what it prints."""
    result = create_app(settings).test_cli_runner().invoke(args=["doctor", *options])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_command_prints_the_policy_and_sends_nothing(settings):
    """`--policy` prints an IAM policy, or SeaweedFS's identity, without a request, and no secret."""
    settings = {**settings, "S3_ENDPOINT": "http://127.0.0.1:9", "CREATE_MISSING": ""}
    assert run_policy(settings, "--policy") == iam_policy(Settings.load(settings))
    (identity,) = run_policy(settings, "--policy=seaweedfs")["identities"]
    assert identity["credentials"] == [{"accessKey": ACCESS_KEY, "secretKey": "$AWS_SECRET_ACCESS_KEY"}]


class PrintedStore(Store):
    """A store with the identity that the command prints."""

    printed: dict[str, object]

    def _write_identities(self) -> None:
        content = json.dumps(self.printed).replace("$AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        admin = {"accessKey": ADMIN_KEY[0], "secretKey": ADMIN_KEY[1]}
        identities = json.loads(content)["identities"]
        identities.append({"name": "admin", "credentials": [admin], "actions": ["Admin"]})
        self._identities_file.write_text(json.dumps({"identities": identities}))

    def ready(self) -> bool:
        """Return whether the bucket is there, which the service's key must not ask for."""
        self.access_key, self.secret_key = ADMIN_KEY
        return super().ready()


def s3_client(endpoint, access_key, secret_key):
    """Return boto3's client with a key."""
    keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key}
    config = Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"})
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=config, **keys)


FORBIDDEN = {
    "read elsewhere": lambda s3: s3.get_object(Bucket=BUCKET, Key="other/a"),
    "write elsewhere": lambda s3: s3.put_object(Bucket=BUCKET, Key="other/b", Body=b"b"),
    "delete elsewhere": lambda s3: s3.delete_object(Bucket=BUCKET, Key="other/a"),
    "list elsewhere": lambda s3: s3.list_objects_v2(Bucket=BUCKET, Prefix="other/"),
    "another bucket": lambda s3: s3.get_object(Bucket="private", Key="a"),
    "create a bucket": lambda s3: s3.create_bucket(Bucket="mine"),
    "delete the bucket": lambda s3: s3.delete_bucket(Bucket=BUCKET),
    "lifecycle": lambda s3: s3.delete_bucket_lifecycle(Bucket=BUCKET),
}


def test_printed_identity_suffices_and_allows_nothing_else(settings, tmp_path):
    """With the identity for a prefix a store serves the service, and denies its key everything else."""
    settings = {**settings, "S3_PREFIX": "up/", "S3_TAGGING": "team=audio"}
    store = PrintedStore(tmp_path / "store", free_port(), BUCKET, ACCESS_KEY, SECRET_KEY)
    store.printed = run_policy(settings, "--policy=seaweedfs")
    store.start()
    try:
        app = create_app({**settings, "S3_ENDPOINT": store.endpoint})
        result = app.test_cli_runner().invoke(args=["doctor"])
        assert result.exit_code == 0, result.output
        client = app.test_client()
        session_id = new_session(client)["upload_session_id"]
        created = new_track(client, session_id, "a.wav")
        put(created["track_upload"], wav())
        assert complete(client, session_id, created)["status"] == "uploaded"
        admin = s3_client(store.endpoint, *ADMIN_KEY)
        admin.create_bucket(Bucket="private")
        admin.put_object(Bucket=BUCKET, Key="other/a", Body=b"a")
        admin.put_object(Bucket="private", Key="a", Body=b"a")
        for name, attempt in FORBIDDEN.items():
            with pytest.raises(ClientError) as error:
                attempt(s3_client(store.endpoint, ACCESS_KEY, SECRET_KEY))
            assert error.value.response["Error"]["Code"] == "AccessDenied", name
    finally:
        store.stop(signal.SIGKILL)

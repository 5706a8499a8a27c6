"""The permissions that the service needs of its store, and no more: as an IAM policy, and as SeaweedFS's identity.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html and
https://github.com/seaweedfs/seaweedfs/wiki/Amazon-S3-API. Creating the bucket and `flask doctor --fix` are not part of
it: they are an operator's, once.
"""

from __future__ import annotations

from typing import Any

from storage.s3.write_headers import access_point_arn, partition_of
from storage.settings import Settings

OBJECT_ACTIONS = (
    "s3:PutObject", "s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts",
)  # fmt: skip
BUCKET_ACTIONS = ("s3:ListBucket", "s3:ListBucketMultipartUploads")
KMS_ACTIONS = ("kms:GenerateDataKey", "kms:Decrypt")
Statement = dict[str, Any]


def iam_policy(settings: Settings) -> dict[str, Any]:
    """Return the IAM policy of the service's key, as a JSON object."""
    statements = [_objects(settings), _bucket(settings), *_encryption(settings)]
    return {"Version": "2012-10-17", "Statement": statements}


def _objects(settings: Settings) -> Statement:
    arn = access_point_arn(settings)
    objects = f"{arn}/object" if arn else _bucket_arn(settings)
    tagging = ("s3:PutObjectTagging",) if settings.s3_tagging else ()
    return _allow("LoadbayObjects", (*OBJECT_ACTIONS, *tagging), f"{objects}/{settings.s3_prefix}*")


def _bucket(settings: Settings) -> Statement:
    statement = _allow("LoadbayBucket", BUCKET_ACTIONS, access_point_arn(settings) or _bucket_arn(settings))
    if settings.s3_prefix:
        # IfExists: a request for an object has no s3:prefix, and without the permission to list a missing one is 403.
        statement["Condition"] = {"StringLikeIfExists": {"s3:prefix": f"{settings.s3_prefix}*"}}
    return statement


def _bucket_arn(settings: Settings) -> str:
    return f"arn:{partition_of(settings)}:s3:::{settings.s3_bucket}"


def _encryption(settings: Settings) -> list[Statement]:
    """Return the statement for a KMS key of one's own. AWS's own key for S3 needs none."""
    key = settings.s3_sse_kms_key_id
    if not key:
        return []
    alias = key if key.startswith("alias/") else key.partition(":alias/")[2] and f"alias/{key.partition(':alias/')[2]}"
    if alias:
        # A policy cannot name an alias as its resource.
        statement = _allow("LoadbayKey", KMS_ACTIONS, "*")
        return [{**statement, "Condition": {"ForAnyValue:StringEquals": {"kms:ResourceAliases": alias}}}]
    arn = key if key.startswith("arn:") else f"arn:{partition_of(settings)}:kms:{settings.s3_region}:*:key/{key}"
    return [_allow("LoadbayKey", KMS_ACTIONS, arn)]


def _allow(sid: str, actions: tuple[str, ...], resource: str) -> Statement:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resource}


def seaweedfs_identities(settings: Settings) -> dict[str, Any]:
    """Return the content of SeaweedFS's `-s3.config` with the service's identity alone, as a JSON object.

    It has the key of the settings, and in place of its secret the name of the variable.
    """
    scope = f"{settings.s3_bucket}/{settings.s3_prefix}*" if settings.s3_prefix else settings.s3_bucket
    names = ("Read", "Write", "List", *(("Tagging",) if settings.s3_tagging else ()))
    return {"identities": [identity("loadbay", settings.aws_access_key_id, "$AWS_SECRET_ACCESS_KEY", names, scope)]}


def identity(name: str, access_key: str, secret_key: str, actions: tuple[str, ...], scope: str) -> dict[str, Any]:
    """Return an identity of SeaweedFS that may do `actions` in `scope`: a bucket, or a part of it."""
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    return {"name": name, "credentials": credentials, "actions": [f"{action}:{scope}" for action in actions]}

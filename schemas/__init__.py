"""Schemas of requests and responses (marshmallow). They validate and shape data, and never query a database."""

from . import errors
from .api_keys import ApiKeyCreatedResponse, CreateApiKey
from .base import RequestSchema, ResponseSchema
from .fields import canonical_uuid, idempotency_key, is_image_type
from .page import PageSchema
from .responses import (
    CollectionTrackListResponse,
    CoverUploadResponse,
    DownloadResponse,
    PartListResponse,
    ReceiptResponse,
    SignedPartsResponse,
    StoreEventResponse,
    TrackCreatedResponse,
    TrackListResponse,
    TrackRefResponse,
    TrackResponse,
    TracksCreatedResponse,
    TracksVerifiedResponse,
    UploadSessionClosedResponse,
    UploadSessionCreatedResponse,
    UploadSessionListResponse,
    UploadSessionResponse,
)
from .rules import Rules
from .store_events import SNSMessage, StoreEvent, StoreEventByPath
from .strict_json import JSONError, read_json
from .tracks import (
    MAX_BATCH,
    MAX_PAGE,
    CancelQuery,
    ChangeTrack,
    CompleteTracks,
    CreateTrack,
    CreateTracks,
    Pagination,
    ReceiptQuery,
    SignParts,
    TrackListQuery,
)
from .upload_sessions import ChangeUploadSession, CreateUploadSession, UploadSessionListQuery

__all__ = [
    "MAX_BATCH",
    "MAX_PAGE",
    "ApiKeyCreatedResponse",
    "CancelQuery",
    "ChangeTrack",
    "ChangeUploadSession",
    "CollectionTrackListResponse",
    "CompleteTracks",
    "CoverUploadResponse",
    "CreateApiKey",
    "CreateTrack",
    "CreateTracks",
    "CreateUploadSession",
    "DownloadResponse",
    "JSONError",
    "PageSchema",
    "Pagination",
    "PartListResponse",
    "ReceiptQuery",
    "ReceiptResponse",
    "RequestSchema",
    "ResponseSchema",
    "Rules",
    "SNSMessage",
    "SignParts",
    "SignedPartsResponse",
    "StoreEvent",
    "StoreEventByPath",
    "StoreEventResponse",
    "TrackCreatedResponse",
    "TrackListQuery",
    "TrackListResponse",
    "TrackRefResponse",
    "TrackResponse",
    "TracksCreatedResponse",
    "TracksVerifiedResponse",
    "UploadSessionClosedResponse",
    "UploadSessionCreatedResponse",
    "UploadSessionListQuery",
    "UploadSessionListResponse",
    "UploadSessionResponse",
    "canonical_uuid",
    "errors",
    "idempotency_key",
    "is_image_type",
    "read_json",
]

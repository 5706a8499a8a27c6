-- SQLite's triggers: they count a session's tracks and write the outbox (postgresql.sql has the same for PostgreSQL).
--
-- A trigger runs in the statement that changes the row: counts cannot drift, no matter which statement changes a track
-- or how many do so at once, and an event is stored exactly if its change is. Nothing is written for an organization
-- without webhooks.
--
-- migrations/0001_initial.py runs this file. It must not change once it is released: a later change is a new file, with
-- a migration of its own.


-- A new track is `initialized`. This one is on the hot path.
CREATE TRIGGER loadbay_track_inserted AFTER INSERT ON loadbay_track
BEGIN
    UPDATE loadbay_upload_session
    SET track_count = track_count + 1,
        declared_bytes = declared_bytes + COALESCE(NEW.file_size, 0),
        initialized = initialized + 1
    WHERE seq = NEW.session_seq;
END;


-- Count the bytes that are declared in the sessions of an API key with limits; 100 MiB for a track without a size. Other
-- sessions only evaluate the first condition.
CREATE TRIGGER loadbay_count_key_bytes AFTER UPDATE OF track_count ON loadbay_upload_session
WHEN NEW.api_key_seq IS NOT NULL AND NEW.track_count > OLD.track_count
BEGIN
    UPDATE loadbay_api_key
    SET used_bytes = CASE WHEN used_day = CAST(strftime('%s', 'now') AS INTEGER) / 86400 THEN used_bytes ELSE 0 END
            + COALESCE(NULLIF(NEW.declared_bytes - OLD.declared_bytes, 0), 104857600),
        used_day = CAST(strftime('%s', 'now') AS INTEGER) / 86400
    WHERE seq = NEW.api_key_seq;
    SELECT RAISE(ABORT, 'loadbay_key_byte_limit') FROM loadbay_api_key
    WHERE seq = NEW.api_key_seq AND used_bytes > max_bytes_per_day;
END;


CREATE TRIGGER loadbay_track_deleted AFTER DELETE ON loadbay_track
BEGIN
    UPDATE loadbay_upload_session
    SET track_count = track_count - 1,
        declared_bytes = declared_bytes - COALESCE(OLD.file_size, 0),
        initialized = initialized - (OLD.status = 'initialized'),
        uploaded = uploaded - (OLD.status = 'uploaded'),
        failed = failed - (OLD.status = 'failed'),
        expired = expired - (OLD.status = 'expired'),
        cancelled = cancelled - (OLD.status = 'cancelled'),
        uploaded_bytes = uploaded_bytes - CASE WHEN OLD.status = 'uploaded' THEN OLD.size ELSE 0 END
    WHERE seq = OLD.session_seq;
END;


CREATE TRIGGER loadbay_track_status_changed AFTER UPDATE OF status ON loadbay_track
BEGIN
    -- First the counts, then the events that depend on them.
    UPDATE loadbay_upload_session
    SET initialized = initialized - (OLD.status = 'initialized') + (NEW.status = 'initialized'),
        uploaded = uploaded - (OLD.status = 'uploaded') + (NEW.status = 'uploaded'),
        failed = failed - (OLD.status = 'failed') + (NEW.status = 'failed'),
        expired = expired - (OLD.status = 'expired') + (NEW.status = 'expired'),
        cancelled = cancelled - (OLD.status = 'cancelled') + (NEW.status = 'cancelled'),
        uploaded_bytes = uploaded_bytes
            - CASE WHEN OLD.status = 'uploaded' THEN OLD.size ELSE 0 END
            + CASE WHEN NEW.status = 'uploaded' THEN NEW.size ELSE 0 END
    WHERE seq = NEW.session_seq;

    -- track.uploaded, track.failed, track.expired
    INSERT INTO loadbay_webhook_delivery
        (id, webhook_seq, session_seq, track_seq, type, data, metadata, created_at, due_at, attempts)
    SELECT
        'msg_' || lower(hex(randomblob(16))),
        webhook.seq,
        session.seq,
        NEW.seq,
        'track.' || NEW.status,
        json_object(
            'upload_session_id', session.id,
            'track_id', NEW.id,
            'collection_id', session.collection_id,
            'status', NEW.status,
            'path', NEW.path,
            'file_name', NEW.file_name,
            'file_size', NEW.file_size,
            'size', NEW.size,
            'content_type', NEW.content_type,
            'detected_type', NEW.detected_type,
            'audio', json(NEW.audio),
            'checksum_sha256', NEW.checksum_sha256,
            'checksum_crc64nvme', NEW.checksum_crc64nvme,
            'checksum_crc32c', NEW.checksum_crc32c,
            'integrity', NEW.integrity,
            'etag', NEW.etag,
            'failure', NEW.failure,
            'failure_code', NEW.failure_code,
            'organization_index', NEW.organization_index
        ),
        NEW.metadata,
        CAST(strftime('%s', 'now') AS INTEGER),
        0,
        0
    FROM loadbay_upload_session AS session
    JOIN loadbay_webhook AS webhook ON webhook.organization_id = session.organization_id AND webhook.enabled
    WHERE session.seq = NEW.session_seq
        AND NEW.status IN ('uploaded', 'failed', 'expired')
        AND NEW.status <> OLD.status;

    -- upload_session.completed, with the last track of a session that takes no more.
    INSERT INTO loadbay_webhook_delivery
        (id, webhook_seq, session_seq, track_seq, type, data, metadata, created_at, due_at, attempts)
    SELECT
        'msg_' || lower(hex(randomblob(16))),
        webhook.seq,
        session.seq,
        NULL,
        'upload_session.completed',
        json_object(
            'upload_session_id', session.id,
            'collection_id', session.collection_id,
            'status', CASE session.status WHEN 'open' THEN 'expired' ELSE session.status END,
            'creator_id', session.creator_id,
            'organization_index', session.organization_index,
            'rules', json(session.rules),
            'track_count', session.track_count,
            'uploaded', session.uploaded,
            'failed', session.failed,
            'expired', session.expired,
            'cancelled', session.cancelled,
            'uploaded_bytes', session.uploaded_bytes
        ),
        session.metadata,
        CAST(strftime('%s', 'now') AS INTEGER),
        0,
        0
    FROM loadbay_upload_session AS session
    JOIN loadbay_webhook AS webhook ON webhook.organization_id = session.organization_id AND webhook.enabled
    WHERE session.seq = NEW.session_seq
        AND OLD.status = 'initialized'
        AND NEW.status <> 'initialized'
        AND session.initialized = 0
        AND (session.status = 'closed' OR session.swept_at IS NOT NULL);
END;


-- upload_session.completed, for a session that is closed, or swept after its end, when all its tracks are final.
CREATE TRIGGER loadbay_session_ended AFTER UPDATE OF status, swept_at ON loadbay_upload_session
WHEN NEW.initialized = 0 AND (
    (NEW.status = 'closed' AND OLD.status <> 'closed')
    OR (NEW.status = 'open' AND NEW.swept_at IS NOT NULL AND OLD.swept_at IS NULL)
)
BEGIN
    INSERT INTO loadbay_webhook_delivery
        (id, webhook_seq, session_seq, track_seq, type, data, metadata, created_at, due_at, attempts)
    SELECT
        'msg_' || lower(hex(randomblob(16))),
        webhook.seq,
        session.seq,
        NULL,
        'upload_session.completed',
        json_object(
            'upload_session_id', session.id,
            'collection_id', session.collection_id,
            'status', CASE session.status WHEN 'open' THEN 'expired' ELSE session.status END,
            'creator_id', session.creator_id,
            'organization_index', session.organization_index,
            'rules', json(session.rules),
            'track_count', session.track_count,
            'uploaded', session.uploaded,
            'failed', session.failed,
            'expired', session.expired,
            'cancelled', session.cancelled,
            'uploaded_bytes', session.uploaded_bytes
        ),
        session.metadata,
        CAST(strftime('%s', 'now') AS INTEGER),
        0,
        0
    FROM loadbay_upload_session AS session
    JOIN loadbay_webhook AS webhook ON webhook.organization_id = session.organization_id AND webhook.enabled
    WHERE session.seq = NEW.seq;
END;

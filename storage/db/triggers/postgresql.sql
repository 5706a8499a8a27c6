-- PostgreSQL's triggers: they count a session's tracks and write the outbox (sqlite.sql has the same for SQLite).
--
-- A trigger runs in the statement that changes the row: counts cannot drift, no matter which statement changes a track
-- or how many do so at once, and an event is stored exactly if its change is. Nothing is written for an organization
-- without webhooks.
--
-- migrations/0001_initial.py runs this file. It must not change once it is released: a later change is a new file, with
-- a migration of its own.


-- A new track is `initialized`. This one is on the hot path.
CREATE FUNCTION loadbay_track_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE loadbay_upload_session
    SET track_count = track_count + 1,
        declared_bytes = declared_bytes + COALESCE(NEW.file_size, 0),
        initialized = initialized + 1
    WHERE seq = NEW.session_seq;
    RETURN NULL;
END;
$$;

CREATE TRIGGER loadbay_track_inserted AFTER INSERT ON loadbay_track
FOR EACH ROW EXECUTE FUNCTION loadbay_track_inserted();


-- Count the bytes that are declared in the sessions of an API key with limits; 100 MiB for a track without a size. Other
-- sessions only evaluate the condition.
CREATE FUNCTION loadbay_count_key_bytes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    today bigint := floor(extract(epoch FROM clock_timestamp()) / 86400);
BEGIN
    UPDATE loadbay_api_key
    SET used_bytes = CASE WHEN used_day = today THEN used_bytes ELSE 0 END
            + COALESCE(NULLIF(NEW.declared_bytes - OLD.declared_bytes, 0), 104857600),
        used_day = today
    WHERE seq = NEW.api_key_seq;
    IF EXISTS (SELECT FROM loadbay_api_key WHERE seq = NEW.api_key_seq AND used_bytes > max_bytes_per_day) THEN
        RAISE EXCEPTION 'loadbay_key_byte_limit' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END;
$$;

CREATE TRIGGER loadbay_count_key_bytes AFTER UPDATE OF track_count ON loadbay_upload_session
FOR EACH ROW WHEN (NEW.api_key_seq IS NOT NULL AND NEW.track_count > OLD.track_count)
EXECUTE FUNCTION loadbay_count_key_bytes();


CREATE FUNCTION loadbay_track_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE loadbay_upload_session
    SET track_count = track_count - 1,
        declared_bytes = declared_bytes - COALESCE(OLD.file_size, 0),
        initialized = initialized - (OLD.status = 'initialized')::int,
        uploaded = uploaded - (OLD.status = 'uploaded')::int,
        failed = failed - (OLD.status = 'failed')::int,
        expired = expired - (OLD.status = 'expired')::int,
        cancelled = cancelled - (OLD.status = 'cancelled')::int,
        uploaded_bytes = uploaded_bytes - CASE WHEN OLD.status = 'uploaded' THEN OLD.size ELSE 0 END
    WHERE seq = OLD.session_seq;
    RETURN NULL;
END;
$$;

CREATE TRIGGER loadbay_track_deleted AFTER DELETE ON loadbay_track
FOR EACH ROW EXECUTE FUNCTION loadbay_track_deleted();


-- Write upload_session.completed for each enabled webhook of the session's organization, if all its tracks are final.
-- FOR KEY SHARE: the event of a webhook that is being deleted is not written, rather than fail the change.
CREATE FUNCTION loadbay_write_session_completed(session_seq bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO loadbay_webhook_delivery
        (id, webhook_seq, session_seq, track_seq, type, data, metadata, created_at, due_at, attempts)
    SELECT
        'msg_' || replace(gen_random_uuid()::text, '-', ''),
        webhook.seq,
        session.seq,
        NULL,
        'upload_session.completed',
        json_build_object(
            'upload_session_id', session.id,
            'collection_id', session.collection_id,
            'status', CASE session.status WHEN 'open' THEN 'expired' ELSE session.status END,
            'creator_id', session.creator_id,
            'organization_index', session.organization_index,
            'rules', session.rules::json,
            'track_count', session.track_count,
            'uploaded', session.uploaded,
            'failed', session.failed,
            'expired', session.expired,
            'cancelled', session.cancelled,
            'uploaded_bytes', session.uploaded_bytes
        )::text,
        session.metadata,
        floor(extract(epoch FROM clock_timestamp()))::bigint,
        0,
        0
    FROM loadbay_upload_session AS session
    JOIN loadbay_webhook AS webhook ON webhook.organization_id = session.organization_id AND webhook.enabled
    WHERE session.seq = loadbay_write_session_completed.session_seq
        AND session.initialized = 0
        AND (session.status = 'closed' OR session.swept_at IS NOT NULL)
    FOR KEY SHARE OF webhook;
END;
$$;


CREATE FUNCTION loadbay_track_status_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- First the counts, then the events that depend on them. Every change of a track updates its session's row, which
    -- puts concurrent changes in order: exactly one of them is the last.
    UPDATE loadbay_upload_session
    SET initialized = initialized - (OLD.status = 'initialized')::int + (NEW.status = 'initialized')::int,
        uploaded = uploaded - (OLD.status = 'uploaded')::int + (NEW.status = 'uploaded')::int,
        failed = failed - (OLD.status = 'failed')::int + (NEW.status = 'failed')::int,
        expired = expired - (OLD.status = 'expired')::int + (NEW.status = 'expired')::int,
        cancelled = cancelled - (OLD.status = 'cancelled')::int + (NEW.status = 'cancelled')::int,
        uploaded_bytes = uploaded_bytes
            - CASE WHEN OLD.status = 'uploaded' THEN OLD.size ELSE 0 END
            + CASE WHEN NEW.status = 'uploaded' THEN NEW.size ELSE 0 END
    WHERE seq = NEW.session_seq;

    -- track.uploaded, track.failed, track.expired
    INSERT INTO loadbay_webhook_delivery
        (id, webhook_seq, session_seq, track_seq, type, data, metadata, created_at, due_at, attempts)
    SELECT
        'msg_' || replace(gen_random_uuid()::text, '-', ''),
        webhook.seq,
        session.seq,
        NEW.seq,
        'track.' || NEW.status,
        json_build_object(
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
            'audio', NEW.audio::json,
            'checksum_sha256', NEW.checksum_sha256,
            'checksum_crc64nvme', NEW.checksum_crc64nvme,
            'checksum_crc32c', NEW.checksum_crc32c,
            'integrity', NEW.integrity,
            'etag', NEW.etag,
            'failure', NEW.failure,
            'failure_code', NEW.failure_code,
            'organization_index', NEW.organization_index
        )::text,
        NEW.metadata,
        floor(extract(epoch FROM clock_timestamp()))::bigint,
        0,
        0
    FROM loadbay_upload_session AS session
    JOIN loadbay_webhook AS webhook ON webhook.organization_id = session.organization_id AND webhook.enabled
    WHERE session.seq = NEW.session_seq
        AND NEW.status IN ('uploaded', 'failed', 'expired')
        AND NEW.status <> OLD.status
    FOR KEY SHARE OF webhook;

    -- upload_session.completed, with the last track of a session that takes no more.
    IF OLD.status = 'initialized' AND NEW.status <> 'initialized' THEN
        PERFORM loadbay_write_session_completed(NEW.session_seq);
    END IF;
    RETURN NULL;
END;
$$;

CREATE TRIGGER loadbay_track_status_changed AFTER UPDATE OF status ON loadbay_track
FOR EACH ROW EXECUTE FUNCTION loadbay_track_status_changed();


-- upload_session.completed, for a session that is closed, or swept after its end, when all its tracks are final.
CREATE FUNCTION loadbay_session_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM loadbay_write_session_completed(NEW.seq);
    RETURN NULL;
END;
$$;

CREATE TRIGGER loadbay_session_ended AFTER UPDATE OF status, swept_at ON loadbay_upload_session
FOR EACH ROW
WHEN (NEW.initialized = 0 AND (
    (NEW.status = 'closed' AND OLD.status <> 'closed')
    OR (NEW.status = 'open' AND NEW.swept_at IS NOT NULL AND OLD.swept_at IS NULL)
)) EXECUTE FUNCTION loadbay_session_ended();

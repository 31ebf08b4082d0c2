"""The schema of an Alexandria library: 17 tables, as the application's migrations make them."""

from __future__ import annotations

SCHEMA = """
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
CREATE TABLE classifications (
    id serial PRIMARY KEY, code varchar(20) NOT NULL UNIQUE, name varchar(255) NOT NULL,
    parent_code varchar(20) REFERENCES classifications (code), system varchar(20) NOT NULL);
CREATE TABLE creators (
    id serial PRIMARY KEY, name varchar(255) NOT NULL, sort_name varchar(255), identifiers jsonb, bio text,
    photo_path varchar(1000));
CREATE TABLE users (
    id serial PRIMARY KEY, username varchar(50) NOT NULL UNIQUE, email varchar(255) UNIQUE,
    password_hash varchar(255) NOT NULL, display_name varchar(100), is_admin boolean NOT NULL,
    can_download boolean NOT NULL, created_at timestamp NOT NULL, last_login timestamp);
CREATE TABLE items (
    id serial PRIMARY KEY, uuid uuid NOT NULL UNIQUE, title varchar(500) NOT NULL, sort_title varchar(500),
    subtitle varchar(500), classification_code varchar(20) REFERENCES classifications (code),
    media_type varchar(20) NOT NULL, isbn varchar(20), isbn13 varchar(20), asin varchar(20), doi varchar(100),
    identifiers jsonb, description text, publisher varchar(255), publish_date timestamp, language varchar(10) NOT NULL,
    series_name varchar(255), series_index numeric(5, 2), tags varchar[], page_count integer, duration_seconds integer,
    cover_path varchar(1000), date_added timestamp NOT NULL, date_modified timestamp NOT NULL, search_vector tsvector,
    backdrop_path varchar(1000));
CREATE TABLE files (
    id serial PRIMARY KEY, item_id integer NOT NULL REFERENCES items ON DELETE CASCADE,
    file_path varchar(1000) NOT NULL UNIQUE, format varchar(20) NOT NULL, size_bytes integer, checksum_md5 varchar(32),
    checksum_sha256 varchar(64), date_added timestamp NOT NULL, metadata_extracted boolean NOT NULL,
    extraction_error text);
CREATE TABLE item_creators (
    item_id integer REFERENCES items ON DELETE CASCADE, creator_id integer REFERENCES creators ON DELETE CASCADE,
    role varchar(50), position integer NOT NULL, PRIMARY KEY (item_id, creator_id, role));
CREATE TABLE collections (
    id serial PRIMARY KEY, user_id integer NOT NULL REFERENCES users ON DELETE CASCADE, name varchar(255) NOT NULL,
    description text, is_public boolean NOT NULL, created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
    is_system boolean NOT NULL, system_key varchar(50), color varchar(7));
CREATE TABLE collection_items (
    collection_id integer REFERENCES collections ON DELETE CASCADE, item_id integer REFERENCES items ON DELETE CASCADE,
    added_at timestamp NOT NULL, notes text, PRIMARY KEY (collection_id, item_id));
CREATE TABLE sessions (
    id varchar(64) PRIMARY KEY, user_id integer NOT NULL REFERENCES users ON DELETE CASCADE, ip_address varchar(45),
    user_agent varchar(500), created_at timestamp NOT NULL, last_accessed timestamp NOT NULL,
    expires_at timestamp NOT NULL);
CREATE TABLE audit_logs (
    id serial PRIMARY KEY, user_id integer REFERENCES users ON DELETE SET NULL, event_type varchar(50) NOT NULL,
    event_category varchar(50) NOT NULL, resource_type varchar(50), resource_id integer, ip_address varchar(45),
    user_agent varchar(500), details json, created_at timestamp NOT NULL);
CREATE TABLE system_settings (
    key varchar(100) PRIMARY KEY, value text, value_type varchar(20) NOT NULL, description text,
    updated_at timestamp NOT NULL);
CREATE TABLE reading_progress (
    id serial PRIMARY KEY, item_id integer NOT NULL REFERENCES items ON DELETE CASCADE,
    file_id integer NOT NULL REFERENCES files ON DELETE CASCADE, progress numeric(5, 4) NOT NULL, location text,
    location_label text, started_at timestamp NOT NULL, last_read_at timestamp NOT NULL, finished_at timestamp,
    user_id integer NOT NULL REFERENCES users ON DELETE CASCADE, audio_chapter integer,
    audio_position_seconds double precision, last_listened_at timestamp, preferred_mode varchar(20) NOT NULL,
    UNIQUE (user_id, item_id));
CREATE TABLE user_progress (
    user_id integer REFERENCES users ON DELETE CASCADE, item_id integer REFERENCES items ON DELETE CASCADE,
    file_id integer REFERENCES files ON DELETE SET NULL, progress_percent numeric(5, 2), position text,
    last_accessed timestamp NOT NULL, completed boolean NOT NULL, completed_at timestamp,
    PRIMARY KEY (user_id, item_id));
CREATE TABLE source_files (
    id serial PRIMARY KEY, source_path varchar(2000) NOT NULL UNIQUE, filename varchar(500) NOT NULL,
    format varchar(20) NOT NULL, size_bytes bigint NOT NULL, checksum_md5 varchar(32) NOT NULL,
    checksum_sha256 varchar(64), status varchar(20) NOT NULL
        CHECK (status IN ('pending', 'processing', 'migrated', 'duplicate', 'failed', 'skipped')),
    migrated_file_id integer REFERENCES files ON DELETE SET NULL, duplicate_of_id integer REFERENCES source_files,
    extracted_metadata jsonb, error_message text, scanned_at timestamp NOT NULL, processed_at timestamp);
CREATE TABLE edit_requests (
    id serial PRIMARY KEY, item_id integer NOT NULL REFERENCES items ON DELETE CASCADE,
    request_type varchar(50) NOT NULL, request_data jsonb NOT NULL, status varchar(20) NOT NULL
        CHECK (status IN ('pending', 'completed', 'failed', 'rejected')),
    error_message text, created_at timestamp NOT NULL, processed_at timestamp,
    requested_by_id integer REFERENCES users ON DELETE SET NULL);
CREATE TABLE tts_cache (
    id serial PRIMARY KEY, item_id integer NOT NULL REFERENCES items ON DELETE CASCADE, chapter_number integer NOT NULL,
    voice_id varchar(100) NOT NULL, file_path varchar(1000) NOT NULL, duration_seconds double precision NOT NULL,
    file_size_bytes bigint, generated_at timestamp NOT NULL, UNIQUE (item_id, chapter_number, voice_id));
CREATE INDEX ix_items_title ON items (title);
CREATE INDEX ix_items_isbn13 ON items (isbn13);
CREATE INDEX ix_items_search_vector ON items USING gin (search_vector);
CREATE INDEX ix_items_tags ON items USING gin (tags);
CREATE INDEX ix_items_series_name ON items (series_name);
CREATE INDEX ix_creators_name ON creators (name);
CREATE INDEX ix_files_item_id ON files (item_id);
CREATE INDEX ix_files_checksum_sha256 ON files (checksum_sha256);
CREATE INDEX ix_collections_public ON collections (is_public) WHERE is_public;
CREATE INDEX ix_audit_logs_created_at ON audit_logs (created_at);
CREATE INDEX ix_sessions_user_id ON sessions (user_id);
"""

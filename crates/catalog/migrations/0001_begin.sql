-- Times are two integers, seconds since 1970 and nanoseconds within the second: a snapshot of the
-- year 1 or 9999 does not fit into 64 bits of nanoseconds, and both can be met in a repository.

CREATE TABLE repositories (
    id              TEXT    NOT NULL PRIMARY KEY
                            CHECK (length(id) = 64 AND id NOT GLOB '*[^0-9a-f]*'),
    location        TEXT    NOT NULL,
    first_seen_s    INTEGER NOT NULL,
    first_seen_n    INTEGER NOT NULL,
    last_seen_s     INTEGER NOT NULL,
    last_seen_n     INTEGER NOT NULL,
    -- 1 once a rebuild has told what an earlier catalog may have lost.
    rebuilt         INTEGER NOT NULL DEFAULT 0
) STRICT;

-- An entity is here as long as it has a snapshot here.
CREATE TABLE entities (
    repository      TEXT    NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    host            TEXT    NOT NULL,
    type            TEXT    NOT NULL,
    object          TEXT    NOT NULL,
    name            TEXT    NOT NULL,
    PRIMARY KEY (repository, host, type, object)
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshots (
    repository      TEXT    NOT NULL,
    file_id         TEXT    NOT NULL
                            CHECK (length(file_id) = 64 AND file_id NOT GLOB '*[^0-9a-f]*'),
    host            TEXT    NOT NULL,
    type            TEXT    NOT NULL,
    object          TEXT    NOT NULL,
    snapshot_id     TEXT,
    time_s          INTEGER NOT NULL,
    time_n          INTEGER NOT NULL,
    parent          TEXT,
    tree            TEXT    NOT NULL,
    tags            TEXT    NOT NULL,
    origin          TEXT    NOT NULL CHECK (origin IN ('ours', 'foreign', 'evidence')),
    run             TEXT,
    digest          TEXT,
    status          TEXT,
    summary         TEXT,
    PRIMARY KEY (repository, file_id),
    FOREIGN KEY (repository, host, type, object)
        REFERENCES entities (repository, host, type, object) ON DELETE CASCADE
) STRICT;

CREATE INDEX snapshots_by_entity ON snapshots (repository, host, type, object, time_s, time_n);

-- A run may have failed before it knew its repository, its entity or its end.
CREATE TABLE runs (
    id              TEXT    NOT NULL PRIMARY KEY,
    repository      TEXT    REFERENCES repositories (id) ON DELETE CASCADE,
    verb            TEXT    NOT NULL,
    type            TEXT,
    object          TEXT,
    host            TEXT    NOT NULL,
    snapshot_file   TEXT,
    started_s       INTEGER NOT NULL,
    started_n       INTEGER NOT NULL,
    ended_s         INTEGER,
    ended_n         INTEGER,
    status          TEXT    NOT NULL,
    exit_code       INTEGER,
    outcome         TEXT
) STRICT;

CREATE INDEX runs_by_time ON runs (started_s, started_n);

-- No reference to `snapshots`: evidence outlives what it speaks of, and may be read before it.
CREATE TABLE evidence (
    repository      TEXT    NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    id              TEXT    NOT NULL,
    run             TEXT,
    host            TEXT    NOT NULL,
    type            TEXT    NOT NULL,
    object          TEXT    NOT NULL,
    snapshot_file   TEXT    NOT NULL,
    kind            TEXT    NOT NULL,
    time_s          INTEGER NOT NULL,
    time_n          INTEGER NOT NULL,
    detail          TEXT    NOT NULL,
    PRIMARY KEY (repository, id)
) STRICT;

CREATE INDEX evidence_by_snapshot ON evidence (repository, snapshot_file);

-- Known to this machine only; no repository brings them back.
CREATE TABLE tasks (
    id              TEXT    NOT NULL PRIMARY KEY,
    kind            TEXT    NOT NULL,
    state           TEXT    NOT NULL,
    created_s       INTEGER NOT NULL,
    created_n       INTEGER NOT NULL,
    updated_s       INTEGER NOT NULL,
    updated_n       INTEGER NOT NULL,
    detail          TEXT    NOT NULL
) STRICT;

-- The locks this machine wrote. Recorded before anything else is known of the repository,
-- therefore no reference to `repositories`.
CREATE TABLE locks (
    repository      TEXT    NOT NULL,
    file_id         TEXT    NOT NULL,
    pid             INTEGER NOT NULL,
    boot_id         TEXT    NOT NULL,
    start_ticks     INTEGER NOT NULL,
    created_s       INTEGER NOT NULL,
    created_n       INTEGER NOT NULL,
    PRIMARY KEY (repository, file_id)
) STRICT;

-- What a broken catalog held, as far as it could still be read: the next rebuild reports it.
CREATE TABLE lost (
    kind            TEXT    NOT NULL CHECK (kind IN ('run', 'task', 'unknown')),
    id              TEXT    NOT NULL,
    repository      TEXT,
    PRIMARY KEY (kind, id)
) STRICT;

-- When this machine last read a pack whole and found nothing wrong. Known to it only: lost, packs are read
-- once more than needed.
CREATE TABLE pack_reads (
    repository      TEXT    NOT NULL,
    pack            BLOB    NOT NULL,
    read_s          INTEGER NOT NULL,
    PRIMARY KEY (repository, pack)
) STRICT, WITHOUT ROWID;

-- How far the store is clean (runtime/src/store/retention.rs): steps that ended before `until` have no entries left but their
-- results. So a sweep reads what is to be deleted, and nothing that was looked at before.
CREATE TABLE cleanings (
    what  TEXT    PRIMARY KEY NOT NULL,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

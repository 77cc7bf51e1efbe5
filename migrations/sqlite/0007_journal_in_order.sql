-- The journal in the order of arrival. The table `journal` lies in the order of its steps, whose ids are scattered: each entry
-- changed a page of its own. Here entries follow one another, and the key is narrow and dense, because it begins with the
-- number of the task: what is under way is close together.
CREATE TABLE journal_entries (
    place    INTEGER PRIMARY KEY,
    task     INTEGER NOT NULL,
    run_no   INTEGER NOT NULL,
    step_no  INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    step_id  BLOB    NOT NULL,
    version  INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    codec    INTEGER,
    size     INTEGER,
    checksum INTEGER,
    packed   BLOB,
    body     TEXT    NOT NULL,
    UNIQUE (task, run_no, step_no, seq)
) STRICT;

-- The entries of a step, by its id.
CREATE VIEW entries AS
    SELECT s.id AS step_id, e.place, e.seq, e.version, e.kind, e.codec, e.size, e.checksum, e.packed, e.body
    FROM steps s
    CROSS JOIN tasks t ON t.id = s.task_id
    CROSS JOIN journal_entries e ON e.task = t.seq AND e.run_no = s.run_no AND e.step_no = s.step_no;

-- What was there. `journal` itself stays as it is, and nobody reads or writes it any more.
INSERT INTO journal_entries (task, run_no, step_no, seq, step_id, version, kind, codec, size, checksum, packed, body)
    SELECT t.seq, s.run_no, s.step_no, j.seq, s.id, j.version, j.kind, j.codec, j.size, j.checksum, j.packed, j.body
    FROM tasks t
    JOIN steps s ON s.task_id = t.id
    JOIN journal j ON j.step_id = s.id
    ORDER BY t.seq, s.run_no, s.step_no, j.seq;

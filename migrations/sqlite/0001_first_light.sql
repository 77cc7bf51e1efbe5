-- What a node must remember. Wide rows (what was asked, what happened) are inserted once and never updated; what
-- changes sits in narrow rows (steps). Times are milliseconds since 1970 UTC, ids are 16 bytes.

-- One row a node; each start is a new incarnation, so that a former life's claims can be told from this one's.
CREATE TABLE nodes (
    name        TEXT    PRIMARY KEY NOT NULL,
    incarnation INTEGER NOT NULL,
    started_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row, written by every ping: a store that can only read does not answer it.
CREATE TABLE pings (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT;

-- Every spec that a run has pinned, by digest.
CREATE TABLE agent_specs (
    digest     TEXT    PRIMARY KEY NOT NULL,
    agent_id   TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    first_seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The inbox: unique by id, and the id is derived from the event and the agent. The wide column is the last one, so
-- that lists read past it.
CREATE TABLE tasks (
    seq            INTEGER PRIMARY KEY,
    id             BLOB    NOT NULL UNIQUE,
    agent_id       TEXT    NOT NULL,
    execution_mode TEXT    NOT NULL,
    spec_digest    TEXT    NOT NULL,
    step_id        BLOB    NOT NULL,
    event_id       TEXT    NOT NULL,
    topic          TEXT    NOT NULL,
    traceparent    TEXT    NOT NULL,
    priority       INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    event          TEXT    NOT NULL
) STRICT;
CREATE INDEX tasks_by_agent ON tasks (agent_id);

-- The narrow row: who works on a step, under which epoch, how far it is.
CREATE TABLE steps (
    id          BLOB    PRIMARY KEY NOT NULL,
    task_id     BLOB    NOT NULL,
    run_no      INTEGER NOT NULL,
    step_no     INTEGER NOT NULL,
    status      TEXT    NOT NULL,
    owner       INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    claims      INTEGER NOT NULL,
    claimed_seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- Few are open at a time, whatever has ended: recovery and `status=running|waiting` read these only.
CREATE INDEX steps_open ON steps (status, owner) WHERE status IN ('running', 'waiting');

-- All entries of a step but its last, which is its row in execution_results.
CREATE TABLE journal (
    step_id BLOB    NOT NULL,
    seq     INTEGER NOT NULL,
    version INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    body    TEXT    NOT NULL,
    PRIMARY KEY (step_id, seq)
) STRICT, WITHOUT ROWID;

-- How steps ended: the last journal entry itself, found by agent and time. outcome is NULL when it is the entry's own
-- answer, so that no answer is stored twice.
CREATE TABLE execution_results (
    id                  INTEGER PRIMARY KEY,
    step_id             BLOB    NOT NULL UNIQUE,
    task_id             BLOB    NOT NULL,
    agent_id            TEXT    NOT NULL,
    execution_timestamp INTEGER NOT NULL,
    status              TEXT    NOT NULL,
    input_tokens        INTEGER NOT NULL,
    output_tokens       INTEGER NOT NULL,
    cost_microusd       INTEGER NOT NULL,
    outcome             TEXT,
    seq                 INTEGER NOT NULL,
    version             INTEGER NOT NULL,
    kind                TEXT    NOT NULL,
    body                TEXT    NOT NULL
) STRICT;
CREATE INDEX execution_results_by_agent ON execution_results (agent_id, execution_timestamp);

-- What must still be told to the bus; refers to the task and the result, holds no copy. AUTOINCREMENT: a number that
-- was told is never given again, else a repeated "told" would delete what nobody has told yet.
CREATE TABLE outbox (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id BLOB NOT NULL,
    step_id BLOB NOT NULL
) STRICT;

-- Answers on their way to where the question came from, by task.
CREATE TABLE replies (
    task_id    BLOB    PRIMARY KEY NOT NULL,
    status     TEXT    NOT NULL,
    attempts   INTEGER NOT NULL,
    doubtful   INTEGER NOT NULL,
    ts         TEXT,
    last_error TEXT,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What an agent keeps between events.
CREATE TABLE agent_states (
    agent_id   TEXT    NOT NULL,
    session    TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    body       TEXT    NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (agent_id, session)
) STRICT, WITHOUT ROWID;

-- Runs of more than one step; a run of one step is its step's row.
CREATE TABLE plan_run_states (
    run_id     BLOB    PRIMARY KEY NOT NULL,
    task_id    BLOB    NOT NULL,
    agent_id   TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    plan       TEXT    NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The embedded bus: queues, what reaches them, what waits in them, what was given up.
-- Times are milliseconds since 1970 UTC. Numbers of events (seq) are handed out by the bus, not by SQLite.

CREATE TABLE bus_queues (
    id            INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    single_active INTEGER NOT NULL
) STRICT;

CREATE TABLE bus_bindings (
    queue   INTEGER NOT NULL,
    pattern TEXT    NOT NULL,
    PRIMARY KEY (queue, pattern)
) STRICT, WITHOUT ROWID;

-- Inserted once, deleted once, never updated. `rank` is 9 minus the priority, so that one ascending index is the order.
CREATE TABLE bus_messages (
    seq   INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    rank  INTEGER NOT NULL,
    body  TEXT    NOT NULL
) STRICT;
CREATE INDEX bus_messages_order ON bus_messages (queue, rank, seq);

-- The narrow row of an event that failed before; `due_at` is 0 once it may be handed out again.
CREATE TABLE bus_retries (
    seq         INTEGER PRIMARY KEY,
    queue       INTEGER NOT NULL,
    rank        INTEGER NOT NULL,
    retrycount  INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    first_error TEXT    NOT NULL,
    last_error  TEXT    NOT NULL
) STRICT;
CREATE INDEX bus_retries_due ON bus_retries (due_at) WHERE due_at > 0;

-- `no` is the order of arrival, whatever the id says. The queue is a name: the letter may outlive the queue.
CREATE TABLE bus_dead_letters (
    no          INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    queue       TEXT    NOT NULL,
    cause       TEXT    NOT NULL,
    attempts    INTEGER NOT NULL,
    first_error TEXT    NOT NULL,
    last_error  TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    event       TEXT    NOT NULL
) STRICT;

-- What a node must remember. Wide rows (what was asked, what happened) are inserted once and never updated; what
-- changes sits in narrow rows (steps). Documents are text, not jsonb: their digests are of the exact text.

-- Lives of all nodes, so that a former life's claims can be told from this one's. A sequence: two nodes that start at
-- once get two numbers.
CREATE SEQUENCE incarnations;
CREATE TABLE nodes (
    name        text        PRIMARY KEY,
    incarnation bigint      NOT NULL,
    started_at  timestamptz NOT NULL
);

-- One row, written by every ping: a store that can only read does not answer it.
CREATE TABLE pings (
    id integer     PRIMARY KEY,
    at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Every spec that a run has pinned, by digest.
CREATE TABLE agent_specs (
    digest     text        PRIMARY KEY,
    agent_id   text        NOT NULL,
    body       text        NOT NULL,
    first_seen timestamptz NOT NULL
);

-- The inbox: unique by id, and the id is derived from the event and the agent.
CREATE TABLE tasks (
    id             uuid        PRIMARY KEY,
    step_id        uuid        NOT NULL,
    seq            bigint      NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
    created_at     timestamptz NOT NULL,
    priority       bigint      NOT NULL,
    agent_id       text        NOT NULL,
    execution_mode text        NOT NULL,
    spec_digest    text        NOT NULL,
    event_id       text        NOT NULL,
    topic          text        NOT NULL,
    traceparent    text        NOT NULL,
    event          text        NOT NULL
);
CREATE INDEX tasks_by_agent ON tasks (agent_id, seq);

-- The narrow row: who works on a step, under which epoch, how far it is. Half a page stays free, so that an update
-- finds room beside the row it replaces.
CREATE TABLE steps (
    id          uuid   PRIMARY KEY,
    task_id     uuid   NOT NULL,
    run_no      bigint NOT NULL,
    step_no     bigint NOT NULL,
    owner       bigint NOT NULL,
    epoch       bigint NOT NULL,
    attempts    bigint NOT NULL,
    claims      bigint NOT NULL,
    claimed_seq bigint NOT NULL,
    status      text   NOT NULL
) WITH (fillfactor = 50);
-- Few are open at a time, whatever has ended: recovery and `status=running|waiting` read these only.
CREATE INDEX steps_open ON steps (status, owner) WHERE status IN ('running', 'waiting');

-- All entries of a step but its last, which is its row in execution_results.
CREATE TABLE journal (
    step_id uuid   NOT NULL,
    seq     bigint NOT NULL,
    version bigint NOT NULL,
    kind    text   NOT NULL,
    body    text   NOT NULL,
    PRIMARY KEY (step_id, seq)
);

-- How steps ended: the last journal entry itself, found by agent and time. outcome is NULL when it is the entry's own
-- answer, so that no answer is stored twice.
CREATE TABLE execution_results (
    step_id             uuid        PRIMARY KEY,
    task_id             uuid        NOT NULL,
    execution_timestamp timestamptz NOT NULL,
    input_tokens        bigint      NOT NULL,
    output_tokens       bigint      NOT NULL,
    cost_microusd       bigint      NOT NULL,
    seq                 bigint      NOT NULL,
    version             bigint      NOT NULL,
    agent_id            text        NOT NULL,
    status              text        NOT NULL,
    kind                text        NOT NULL,
    outcome             text,
    body                text        NOT NULL
);
CREATE INDEX execution_results_by_agent ON execution_results (agent_id, execution_timestamp);

-- What must still be told to the bus; refers to the task and the result, holds no copy. An identity is never given
-- again, else a repeated "told" would delete what nobody has told yet. Rows live for moments: dead ones are swept by
-- their number, not by their share.
CREATE TABLE outbox (
    seq     bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    task_id uuid   NOT NULL,
    step_id uuid   NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- Answers on their way to where the question came from, by task. `previous` is the status before the last try began:
-- the statement that begins a try answers how the reply stood, and two nodes cannot both hear that nothing was sent.
CREATE TABLE replies (
    task_id    uuid        PRIMARY KEY,
    attempts   bigint      NOT NULL,
    doubtful   bigint      NOT NULL,
    updated_at timestamptz NOT NULL,
    status     text        NOT NULL,
    previous   text,
    ts         text,
    last_error text
) WITH (fillfactor = 50);

-- What an agent keeps between events.
CREATE TABLE agent_states (
    agent_id   text        NOT NULL,
    session    text        NOT NULL,
    version    bigint      NOT NULL,
    updated_at timestamptz NOT NULL,
    body       text        NOT NULL,
    PRIMARY KEY (agent_id, session)
);

-- Runs of more than one step; a run of one step is its step's row.
CREATE TABLE plan_run_states (
    run_id     uuid        PRIMARY KEY,
    task_id    uuid        NOT NULL,
    agent_id   text        NOT NULL,
    state      text        NOT NULL,
    plan       text        NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX plan_run_states_by_agent ON plan_run_states (agent_id);

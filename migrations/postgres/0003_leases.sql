-- Who lives: a node's incarnation holds a lease by the server's clock, and is over once somebody has said so. Ending and
-- renewing meet in the one row, so one of them wins; what is ended is never un-ended.
ALTER TABLE nodes ADD COLUMN lease_until timestamptz NOT NULL DEFAULT 'epoch';
ALTER TABLE nodes ADD COLUMN ended_at    timestamptz;
CREATE UNIQUE INDEX nodes_by_incarnation ON nodes (incarnation);

-- Who tells an end: the node that completed the step, until it is over and another inherits it. By index: the ends of
-- a node whose bus is away may be many, and are not read by the others.
ALTER TABLE outbox ADD COLUMN owner bigint NOT NULL DEFAULT 0;
CREATE INDEX outbox_by_owner ON outbox (owner, seq);

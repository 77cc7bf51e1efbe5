-- Who lives: a node's incarnation holds a lease, and is over once somebody has said so; what is ended is never un-ended.
-- In a file the folder's lock keeps other nodes away; the lease tells one life of the node from the next.
ALTER TABLE nodes ADD COLUMN lease_until INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN ended_at    INTEGER;
CREATE UNIQUE INDEX nodes_by_incarnation ON nodes (incarnation);

-- Who tells an end: the node that completed the step. Without an index: one node lives here, and what it finds at its
-- start it inherits.
ALTER TABLE outbox ADD COLUMN owner INTEGER NOT NULL DEFAULT 0;

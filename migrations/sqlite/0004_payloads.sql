-- Texts that may be large (runtime/src/store/payload.rs). `codec` 0: the text is in its own column. 1: it is empty there, and
-- `packed` is zstd's. `size` is that of the text in bytes; `checksum` the first 8 bytes of its SHA-256, big-endian. NULL in
-- all four: written before there were any, read as it is and not checked.

ALTER TABLE tasks ADD COLUMN codec INTEGER;
ALTER TABLE tasks ADD COLUMN size INTEGER;
ALTER TABLE tasks ADD COLUMN checksum INTEGER;
ALTER TABLE tasks ADD COLUMN packed BLOB;

ALTER TABLE journal ADD COLUMN codec INTEGER;
ALTER TABLE journal ADD COLUMN size INTEGER;
ALTER TABLE journal ADD COLUMN checksum INTEGER;
ALTER TABLE journal ADD COLUMN packed BLOB;

-- Here the checksum is of the body and, where there is one, of the outcome behind it.
ALTER TABLE execution_results ADD COLUMN codec INTEGER;
ALTER TABLE execution_results ADD COLUMN size INTEGER;
ALTER TABLE execution_results ADD COLUMN checksum INTEGER;
ALTER TABLE execution_results ADD COLUMN packed BLOB;

ALTER TABLE agent_states ADD COLUMN codec INTEGER;
ALTER TABLE agent_states ADD COLUMN size INTEGER;
ALTER TABLE agent_states ADD COLUMN checksum INTEGER;
ALTER TABLE agent_states ADD COLUMN packed BLOB;

ALTER TABLE plan_run_states ADD COLUMN codec INTEGER;
ALTER TABLE plan_run_states ADD COLUMN size INTEGER;
ALTER TABLE plan_run_states ADD COLUMN checksum INTEGER;
ALTER TABLE plan_run_states ADD COLUMN packed BLOB;

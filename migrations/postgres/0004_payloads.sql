-- Texts that may be large (runtime/src/store/payload.rs). `codec` 0: the text is in its own column. 1: it is empty there, and
-- `packed` is zstd's. `size` is that of the text in bytes; `checksum` the first 8 bytes of its SHA-256, big-endian. NULL in
-- all four: written before there were any, read as it is and not checked. Storage EXTERNAL: what is packed is not packed again.

ALTER TABLE tasks
    ADD COLUMN size     bigint,
    ADD COLUMN checksum bigint,
    ADD COLUMN codec    smallint,
    ADD COLUMN packed   bytea;
ALTER TABLE tasks ALTER COLUMN packed SET STORAGE EXTERNAL;

ALTER TABLE journal
    ADD COLUMN size     bigint,
    ADD COLUMN checksum bigint,
    ADD COLUMN codec    smallint,
    ADD COLUMN packed   bytea;
ALTER TABLE journal ALTER COLUMN packed SET STORAGE EXTERNAL;

-- Here the checksum is of the body and, where there is one, of the outcome behind it.
ALTER TABLE execution_results
    ADD COLUMN size     bigint,
    ADD COLUMN checksum bigint,
    ADD COLUMN codec    smallint,
    ADD COLUMN packed   bytea;
ALTER TABLE execution_results ALTER COLUMN packed SET STORAGE EXTERNAL;

ALTER TABLE agent_states
    ADD COLUMN size     bigint,
    ADD COLUMN checksum bigint,
    ADD COLUMN codec    smallint,
    ADD COLUMN packed   bytea;
ALTER TABLE agent_states ALTER COLUMN packed SET STORAGE EXTERNAL;

ALTER TABLE plan_run_states
    ADD COLUMN size     bigint,
    ADD COLUMN checksum bigint,
    ADD COLUMN codec    smallint,
    ADD COLUMN packed   bytea;
ALTER TABLE plan_run_states ALTER COLUMN packed SET STORAGE EXTERNAL;

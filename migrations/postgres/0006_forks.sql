-- Of what a task is a fork, and the first entry there that it did not take over (runtime/src/store/fork.rs). NULL in all
-- four: it is none.
ALTER TABLE tasks
    ADD COLUMN forked_step_no bigint,
    ADD COLUMN forked_entry   bigint,
    ADD COLUMN forked_task    uuid,
    ADD COLUMN forked_run     uuid;

-- Entries at the head of a step's journal that were made for another run.
ALTER TABLE steps ADD COLUMN copied bigint NOT NULL DEFAULT 0;

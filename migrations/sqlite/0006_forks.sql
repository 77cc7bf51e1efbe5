-- Of what a task is a fork, and the first entry there that it did not take over (runtime/src/store/fork.rs). NULL in all
-- four: it is none.
ALTER TABLE tasks ADD COLUMN forked_task    BLOB;
ALTER TABLE tasks ADD COLUMN forked_run     BLOB;
ALTER TABLE tasks ADD COLUMN forked_step_no INTEGER;
ALTER TABLE tasks ADD COLUMN forked_entry   INTEGER;

-- Entries at the head of a step's journal that were made for another run.
ALTER TABLE steps ADD COLUMN copied INTEGER NOT NULL DEFAULT 0;

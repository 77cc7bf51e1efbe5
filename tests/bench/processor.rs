//! Processor time of processes, as Linux counts it: proc(5), in ticks of 10 ms.
//!
//! A server is a family: what its children used, those that have ended too, is the server's. Called by the benches around what
//! they measure; a process that cannot be read used nothing.

use std::collections::HashMap;
use std::fs;

/// What a tick is, in microseconds.
const TICK_US: f64 = 10_000.0;

/// What a process and the server processes beside it have used so far, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    /// This process.
    pub(crate) own: f64,
    /// The broker.
    pub(crate) broker: f64,
    /// The database.
    pub(crate) database: f64,
}

/// Whom to look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter {
    broker: u32,
    database: u32,
}

/// What proc(5) says of one process.
struct Line {
    id: u32,
    parent: u32,
    /// Of its own.
    own: f64,
    /// Of its children that have ended.
    ended: f64,
}

impl Meter {
    /// Looks at these two servers, by the first process of each, and at this process.
    pub(crate) const fn new(broker: u32, database: u32) -> Self {
        Self { broker, database }
    }

    /// What they have used so far. Looked at twice: a child that ends between a look at its parent and at itself is in neither.
    pub(crate) fn read(self) -> Used {
        let (once, again) = (self.look(), self.look());
        Used {
            own: once.own.max(again.own),
            broker: once.broker.max(again.broker),
            database: once.database.max(again.database),
        }
    }

    fn look(self) -> Used {
        let lines = lines();
        let own = lines.iter().find(|line| line.id == std::process::id()).map_or(0.0, |line| line.own);
        Used { own, broker: family(&lines, self.broker), database: family(&lines, self.database) }
    }
}

impl Used {
    /// What was used since, for each of so many tasks.
    pub(crate) fn since(self, before: Self, tasks: f64) -> Self {
        Self {
            own: (self.own - before.own) / tasks,
            broker: (self.broker - before.broker) / tasks,
            database: (self.database - before.database) / tasks,
        }
    }
}

/// A process and all that descend from it.
fn family(lines: &[Line], root: u32) -> f64 {
    let parents: HashMap<u32, u32> = lines.iter().map(|line| (line.id, line.parent)).collect();
    let belongs = |mut id: u32| {
        // Ends at the first process, whose parent is nobody.
        while id != root {
            match parents.get(&id) {
                Some(parent) => id = *parent,
                None => return false,
            }
        }
        true
    };
    lines.iter().filter(|line| belongs(line.id)).map(|line| line.own + line.ended).sum()
}

fn lines() -> Vec<Line> {
    let ids = fs::read_dir("/proc").into_iter().flatten().flatten();
    ids.filter_map(|entry| line(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn line(id: u32) -> Option<Line> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // Its name stands in brackets and may have blanks in it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |from: usize| -> Option<f64> {
        Some((fields.get(from)?.parse::<f64>().ok()? + fields.get(from + 1)?.parse::<f64>().ok()?) * TICK_US)
    };
    Some(Line { id, parent: fields.get(1)?.parse().ok()?, own: ticks(11)?, ended: ticks(13)? })
}

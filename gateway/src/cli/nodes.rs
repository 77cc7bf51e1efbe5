//! `troupe nodes`: the nodes of the database, and the end of one in good order.
//!
//! Called by the command line; asks the admin API and prints. A drain is waited for with `--wait`: the node answers until it is
//! over, so nobody answering any more is the good end, and 124 is one that did not come in time.

use std::time::Duration;

use clap::Subcommand;
use serde_json::Value;
use tokio::time::Instant;

use super::Error;
use super::age;
use super::counted;
use super::exit::Exit;
use super::printer::Printer;
use super::table::{Column, Listing, Shown, at};
use crate::client::{self, Client, items};

/// Between two looks whether a node is still there.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Verbs of `troupe nodes`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the nodes of the database, those that live first
    #[command(visible_alias = "list")]
    Ls,
    /// Stop a node in good order: no new work, steps end the entry they are at, the rest goes on elsewhere
    Drain {
        /// The node's name, as `nodes ls` shows it
        name: String,
        /// Wait until the node is gone, so long at most
        #[arg(long, value_name = "SPAN", num_args = 0..=1, default_missing_value = "60s", value_parser = age::parse)]
        wait: Option<Duration>,
    },
}

const NODES: Listing = Listing {
    things: "nodes",
    name: "name",
    columns: &[
        Column::new("NAME", "name", Shown::Plain),
        Column::new("STATE", "state", Shown::Plain),
        Column::new("HERE", "here", Shown::Plain),
        Column::new("SINCE", "since", Shown::Age),
        Column::new("STEPS", "steps", Shown::Plain),
        Column::wide("INCARNATION", "incarnation", Shown::Plain),
        Column::wide("LEASE UNTIL", "lease_until", Shown::Plain),
    ],
};

/// Does what the verb says.
pub async fn run(verb: Verb, client: &Client, printer: &mut Printer) -> Result<Exit, Error> {
    match verb {
        Verb::Ls => {
            let body = client.nodes().await?;
            printer.list(&NODES, &body, items(&body))?;
        }
        Verb::Drain { name, wait } => {
            let node = client.drain_node(&name).await?;
            let steps = at(&node, "steps").and_then(Value::as_u64).unwrap_or_default() as usize;
            printer.note(&format!("node {name} drains with {} in hand", counted(steps, "step", "steps")));
            if let Some(limit) = wait {
                gone(client, &name, limit).await?;
                printer.note(&format!("node {name} is gone"));
            }
        }
    }
    Ok(Exit::Ok)
}

/// Waits until nobody answers at the node's address, or another life of it.
async fn gone(client: &Client, name: &str, limit: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    loop {
        match client.nodes().await {
            Err(client::Error::NoNode(_)) => return Ok(()),
            Ok(body) if !drains(&body, name) => return Ok(()),
            Err(error) if !error.is_passing() => return Err(error.into()),
            // It may be at its last breath.
            Ok(_) | Err(_) => {}
        }
        if Instant::now() + LOOK_EVERY > deadline {
            let message = format!("node {name} still drains after {} s", limit.as_secs());
            return Err(Error::Said { exit: Exit::TimedOut, message });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn drains(body: &Value, name: &str) -> bool {
    items(body).iter().any(|node| node["name"] == name && node["state"] == "draining")
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_tells_of_every_node_and_of_this_one_what_it_has_in_hand() {
        let nodes = [
            json!({"name": "a", "state": "draining", "here": true, "since": Utc::now(), "steps": 3}),
            json!({"name": "b", "state": "gone", "here": false, "since": Utc::now(), "steps": null}),
        ];
        let table = NODES.render(&nodes, false, Utc::now());
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1..], [vec!["a", "draining", "true", "0s", "3"], vec!["b", "gone", "false", "0s", "-"]]);
        assert!(drains(&json!({"items": nodes}), "a") && !drains(&json!({"items": nodes}), "b"));
    }
}

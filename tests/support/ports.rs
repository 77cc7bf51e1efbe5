//! Ports for nodes that are started again on the same address.
//!
//! They lie below the range from which the system takes ports for outgoing connections: a connection that was made
//! while a node was down would otherwise sit on its port, one restart in a few hundred. Each is handed out once.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rand::RngExt as _;

/// Where they are drawn from.
const RANGE: Range<u16> = 12_000..32_000;
/// Draws before we give up.
const TRIES: usize = 1_000;

static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of 127.0.0.1 that nobody listens on.
///
/// # Panics
/// When a thousand draws are all taken.
#[must_use]
pub fn free_port() -> u16 {
    let mut handed_out = HANDED_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..TRIES {
        let port = rand::rng().random_range(RANGE);
        if !handed_out.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            handed_out.insert(port);
            return port;
        }
    }
    panic!("no free port of 127.0.0.1 in {RANGE:?}");
}

#[test]
fn a_port_is_free_and_handed_out_once() {
    let ports: BTreeSet<u16> = (0..50).map(|_| free_port()).collect();
    assert_eq!(ports.len(), 50);
    assert!(ports.iter().all(|port| RANGE.contains(port)));
}

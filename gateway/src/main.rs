//! The program `troupe`.
//!
//! Everything it can do is a command of [`troupe_gateway::cli`]; what is left for here is what a process has once: its
//! TLS provider, its runtime and its exit code.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use troupe_gateway::cli;

/// A node makes and drops some hundred small things for each task, on all its threads, and what a burst took is to go back to the
/// machine: docs/adr/0024.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // One provider for the whole process. It is refused only when one is there already, and then that one is used.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();

    // The command line decides what this process is: a node, a demo, or a caller of one.
    let exit = cli::run().await;

    // Scripts read the number, people have read the lines.
    ExitCode::from(exit)
}

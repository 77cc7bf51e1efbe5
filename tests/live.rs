//! `make live`: a real language model, small enough for this machine, through the `openai` provider.
//!
//! A chat, a streamed chat and a forced tool call through the adapter itself; then `troupe ask --wait` from end to end
//! against a real node. What is checked is shape, usage and tool call, never the words: the model is tiny and says what
//! it likes. Not part of `make test`: it needs python and builds a model server once (`tests/live/prepare.sh`).

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a check that fails says why and ends"
)]

#[path = "live/checks.rs"]
mod checks;
#[path = "live/server.rs"]
mod server;

use std::path::PathBuf;

use server::ModelServer;

#[tokio::main]
async fn main() {
    troupe_tests::tls();
    let Some(folder) = std::env::args().nth(1).map(PathBuf::from) else {
        eprintln!("which folder did tests/live/prepare.sh fill? `make live` knows");
        std::process::exit(2);
    };
    let server = ModelServer::start(&folder).await;
    println!("{:<22} {:>8} {:>10} {:>10}  answer", "check", "ms", "tokens in", "tokens out");
    for row in [
        checks::chat(&server).await,
        checks::streamed(&server).await,
        checks::forced_tool(&server).await,
        checks::asked(&server).await,
    ] {
        let (input, output) = row.tokens;
        println!("{:<22} {:>8} {input:>10} {output:>10}  {}", row.name, row.took.as_millis(), row.answer);
    }
    println!("all of it from a real model at {}", server.base_url());
}

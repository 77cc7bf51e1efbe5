//! The model server: a process of ours on a free port of loopback, stopped by its own id.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use troupe_tests::node::Owned;
use troupe_tests::ports::free_port;

/// It loads 100 MB and is ready in seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// A running model server; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct ModelServer {
    base_url: String,
    process: Owned,
}

impl ModelServer {
    /// Starts it on what `tests/live/prepare.sh` has put into `folder`.
    pub(crate) async fn start(folder: &Path) -> Self {
        let (port, log) = (free_port(), folder.join("server.log"));
        let model = folder.join("model.gguf");
        assert!(model.exists(), "there is no {}: run tests/live/prepare.sh {0}", folder.display());
        let mut command = Command::new(folder.join("venv/bin/python"));
        command.args(["-m", "llama_cpp.server", "--host", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--n_ctx", "2048", "--model_alias", "smollm2", "--model"]).arg(&model);
        let file = File::create(&log).expect("a log");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a log")).stderr(file);
        let process = Owned::spawn(&mut command);
        let mut server = Self { base_url: format!("http://127.0.0.1:{port}/v1"), process };
        server.ready(&log).await;
        server
    }

    /// What `base_url` of a spec is to be.
    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }

    async fn ready(&mut self, log: &Path) {
        let client = troupe_tests::slack::client();
        let url = format!("{}/models", self.base_url);
        let begun = std::time::Instant::now();
        loop {
            if client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            if let Some(status) = self.process.ended() {
                panic!("the model server ended with {status}; see {}", log.display());
            }
            assert!(begun.elapsed() < LIMIT, "the model server is not ready; see {}", log.display());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

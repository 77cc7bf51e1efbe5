//! stub
#[derive(Clone, Debug)]
/// x
pub struct Metrics;
use crate::domain::agent::ExecutionMode;
use crate::domain::chat::Usage;
#[expect(clippy::unused_self, missing_docs, reason = "stub")]
impl Metrics {
    pub fn task_ended(&self, _a: &str, _m: ExecutionMode, _s: bool, _t: f64) {}
    pub fn attempt_failed(&self, _a: &str) {}
    pub fn agent_restarted(&self, _a: &str) {}
    pub fn model_called(&self, _a: &str, _p: &str, _m: &str, _o: &str, _s: f64) {}
    pub fn tokens_used(&self, _a: &str, _p: &str, _m: &str, _u: Usage) {}
    pub fn tool_called(&self, _a: &str, _t: &str, _o: &str) {}
}

//! What happens to a call that must not be made twice when the step falls in the middle of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use troupe_actors::roster::Member;
use troupe_actors::served::Served;
use troupe_actors::stage::Options;
use troupe_actors::troupe::Troupe;
use troupe_runtime::domain::agent::Rule;
use troupe_runtime::domain::journal::{Act, Effect};
use troupe_runtime::domain::run::ToolTerms;
use troupe_runtime::domain::task::TaskStatus;
use troupe_runtime::tool::{Answer, Invocation, Tool};

use crate::house::{House, Puppet, member, open_ports, options, says, spec, wants};

/// Pays, and falls before it can say so, or never says so.
struct Pay {
    payments: Arc<AtomicU32>,
    hangs: bool,
}

#[async_trait]
impl Tool for Pay {
    fn name(&self) -> &'static str {
        "pay"
    }

    fn description(&self) -> &'static str {
        "pays"
    }

    fn parameters(&self) -> Value {
        json!({"type": "object"})
    }

    fn effect(&self) -> Effect {
        Effect::Unsafe
    }

    async fn call(&self, _invocation: Invocation) -> Answer {
        self.payments.fetch_add(1, Ordering::SeqCst);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        panic!("paid, and fell")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_doubt_is_asked_about_and_not_made_again() {
    asked_about(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_stalls_is_in_doubt_too() {
    asked_about(true).await;
}

async fn asked_about(hangs: bool) {
    let dir = tempfile::tempdir().unwrap();
    let ports = Arc::new(open_ports(&dir).await);
    let puppet =
        Puppet::new(|messages| if messages.len() > 1 { says("paid") } else { wants("pay", json!({"to": "x"})) });
    let payments = Arc::new(AtomicU32::new(0));
    let Member { spec, served } = member(&ports, spec("payer"), puppet);
    let mut served = Arc::into_inner(served.unwrap()).unwrap();
    served.tools.add(Arc::new(Pay { payments: payments.clone(), hangs })).unwrap();
    served.terms.insert("pay".into(), ToolTerms { effect: Effect::Unsafe, rule: Rule::Allow });
    let options = Options { stalled_after: Duration::from_millis(200), ..options() };
    let member = Member { spec, served: Ok(Arc::new(Served { ..served })) };
    let (troupe, over) = Troupe::start_prepared(ports, vec![member], options, Vec::new()).await.unwrap();
    let house = House { troupe, over, dir };

    let task = house.ask("payer", "pay x").await;
    let parked = house.ended(task).await;
    assert_eq!((parked.status, payments.load(Ordering::SeqCst)), (TaskStatus::Waiting, 1));
    let entries = house.troupe.ports().stores.journal.entries(parked.steps[0].id).await.unwrap();
    let kinds: Vec<&str> = entries.iter().map(|entry| entry.act.kind()).collect();
    assert_eq!(kinds, ["model_result", "tool_intent", "clarification_raised"]);
    let Act::ClarificationRaised { clarification } = &entries[2].act else { unreachable!() };
    assert!(clarification.guidance.contains("pay"), "{}", clarification.guidance);
}

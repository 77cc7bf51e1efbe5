//! Specs, pings, and what agents remember.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{join, join_all};
use serde_json::json;

use super::sample::{noise, spec};
use super::{Case, Harness, Verdict, case, conflict, ensure, equal, open, reopen, some};
use crate::domain::agent::AgentName;
use crate::store::{Error, Remembered, SessionFilter, payload};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("a spec is kept under its digest, once", specs),
        case!("a store that works answers a ping", ping),
        case!("a memory is saved over the version that it was made from", memory_versions),
        case!("of many saves over one version one wins", memory_race),
        case!("memories of agents and sessions are apart", memory_apart),
        case!("an agent's sessions have pages, in order", sessions),
        case!("a memory of any size comes back, and one that is too large is refused", memory_sizes),
        case!("nobody is shown an older memory than was saved", memory_fresh),
        case!("a memory that is known is answered by itself, and any other by what is there", memory_known),
    ]
}

async fn specs(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (writer, editor) = (spec("writer")?, spec("editor")?);
    let digest = stores.specs.keep(&writer).await?;
    equal("its digest", &digest, &writer.digest())?;
    let (again, other) = join(stores.specs.keep(&writer), stores.specs.keep(&editor)).await;
    equal("kept again", &again?, &digest)?;
    let other = other?;
    ensure(other != digest, "two specs have one digest")?;
    equal("unknown", &stores.specs.spec("0123").await?, &None)?;
    let stores = reopen(harness, stores).await?;
    for _ in 0..2 {
        equal("the first", &stores.specs.spec(&digest).await?, &Some(writer.clone()))?;
        equal("the second", &stores.specs.spec(&other).await?, &Some(editor.clone()))?;
    }
    Ok(())
}

async fn ping(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    stores.nodes.ping().await?;
    stores.nodes.start("one", Duration::from_mins(1)).await?;
    for ping in join_all((0..5).map(|_| stores.nodes.ping())).await {
        ping?;
    }
    Ok(())
}

async fn memory_versions(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let agent: AgentName = "support".parse()?;
    let session = "C42:1700 '\"\u{1F3AD}";
    equal("at first", &stores.memory.load(&agent, session).await?, &None)?;
    conflict("over nothing", &stores.memory.save(&agent, session, 1, "{}").await)?;
    let mut version = 0;
    for number in 0..4 {
        let body = json!({"number": number, "text": "'\"\u{1F3AD}"}).to_string();
        let next = stores.memory.save(&agent, session, version, &body).await?;
        ensure(next > version, format!("version {next} after {version}"))?;
        conflict("over an older version", &stores.memory.save(&agent, session, version, "{}").await)?;
        conflict("over a future version", &stores.memory.save(&agent, session, next + 1, "{}").await)?;
        let loaded = some("a memory", stores.memory.load(&agent, session).await?)?;
        equal("the memory", &(loaded.version, &*loaded.body), &(next, body.as_str()))?;
        version = next;
    }
    let before = stores.memory.load(&agent, session).await?;
    let stores = reopen(harness, stores).await?;
    equal("after a crash", &stores.memory.load(&agent, session).await?, &before)
}

async fn memory_race(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let agent: AgentName = "support".parse()?;
    let mut version = 0;
    for _ in 0..4 {
        let bodies: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        let saves = join_all(bodies.iter().map(|body| stores.memory.save(&agent, "s", version, body))).await;
        let won: Vec<(&String, u64)> =
            bodies.iter().zip(&saves).filter_map(|(body, saved)| Some((body, *saved.as_ref().ok()?))).collect();
        equal("winners", &won.len(), &1)?;
        for lost in saves.iter().filter(|saved| saved.is_err()) {
            conflict("a loser", lost)?;
        }
        let loaded = some("a memory", stores.memory.load(&agent, "s").await?)?;
        equal("the winner's", &(&*loaded.body, loaded.version), &(won[0].0.as_str(), won[0].1))?;
        version = loaded.version;
    }
    Ok(())
}

async fn memory_apart(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let places = [("support", "a"), ("support", "b"), ("support", ""), ("sales", "a")];
    for (agent, session) in places {
        stores.memory.save(&agent.parse()?, session, 0, &format!("\"{agent}/{session}\"")).await?;
    }
    let stores = reopen(harness, stores).await?;
    for (agent, session) in places {
        let loaded = some("a memory", stores.memory.load(&agent.parse()?, session).await?)?;
        equal("the memory", &&*loaded.body, &format!("\"{agent}/{session}\"").as_str())?;
    }
    Ok(())
}

async fn sessions(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let agent: AgentName = "support".parse()?;
    stores.memory.save(&"sales".parse()?, "b", 0, "{}").await?;
    let names = ["", "C42:1700", "a", "b", "c '\"\u{1F3AD}"];
    for name in names.iter().rev() {
        let version = stores.memory.save(&agent, name, 0, "{}").await?;
        stores.memory.save(&agent, name, version, &json!({"is": name}).to_string()).await?;
    }
    let mut filter = SessionFilter { agent: agent.clone(), after: None, limit: 2 };
    let (mut found, mut sizes) = (Vec::new(), Vec::new());
    loop {
        let page = stores.memory.sessions(&filter).await?;
        sizes.push(page.len());
        let Some(last) = page.last() else { break };
        filter.after = Some(last.session.clone());
        found.extend(page);
    }
    equal("the pages", &sizes, &vec![2, 2, 1, 0])?;
    equal("the names", &found.iter().map(|row| row.session.as_str()).collect(), &names.to_vec())?;
    for row in &found {
        let memory = some("a memory", stores.memory.load(&agent, &row.session).await?)?;
        equal("its version and size", &(row.version, row.bytes), &(memory.version, memory.body.len() as u64))?;
        let age = chrono::Utc::now() - row.updated_at;
        ensure((-1..60).contains(&age.num_seconds()), format!("saved at {}", row.updated_at))?;
    }
    let stranger = SessionFilter { agent: "nobody".parse()?, after: None, limit: 2 };
    equal("a stranger's", &stores.memory.sessions(&stranger).await?, &vec![])
}

async fn memory_sizes(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (agent, limits) = ("support".parse::<AgentName>()?, payload::Options::default());
    let mut version = 0;
    for bytes in [0, 1, limits.compress_min, limits.compress_min + 1, limits.compress_above + 1, 1] {
        // What packs well and what does not, up to the size.
        for body in ["Grüße, \u{1F3AD}. ".repeat(bytes / 14 + 1), noise(bytes)] {
            let body = &body[..body.floor_char_boundary(bytes)];
            version = stores.memory.save(&agent, "s", version, body).await?;
            let loaded = some("a memory", stores.memory.load(&agent, "s").await?)?;
            ensure(&*loaded.body == body, format!("{bytes} bytes came back as {}", loaded.body.len()))?;
        }
    }
    let huge = "a".repeat(limits.bytes_max + 1);
    let refused = stores.memory.save(&agent, "s", version, &huge).await;
    let (bytes, limit) = (huge.len(), limits.bytes_max);
    equal("too large", &refused, &Err(Error::TooLarge { what: "memory", bytes, limit }))?;
    let stores = reopen(harness, stores).await?;
    let loaded = some("the memory before", stores.memory.load(&agent, "s").await?)?;
    equal("its version", &loaded.version, &version)
}

async fn memory_known(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (agent, memory) = ("support".parse::<AgentName>()?, &stores.memory);
    equal("of nothing", &memory.refresh(&agent, "s", Remembered::new(1, "{}")).await?, &None)?;
    let mut version = 0;
    for body in ["\"first\"", "\"second\"", &format!("\"{}\"", "third, and packed. ".repeat(1000))] {
        let before = Remembered::new(version, body);
        version = memory.save(&agent, "s", version, body).await?;
        let there = some("a memory", memory.load(&agent, "s").await?)?;
        let known = some("a memory", memory.refresh(&agent, "s", there.clone()).await?)?;
        ensure(known.is(&there), "the text was read again")?;
        let strangers = [
            ("an older version of the same text", before),
            ("a later version of the same text", Remembered::new(version + 1, body)),
            ("another text of the same version", Remembered::new(version, "\"other\"")),
            ("another text of the same size", Remembered::new(version, body.replace('i', "o"))),
            ("another checksum", Remembered { checksum: there.checksum ^ 1, ..there.clone() }),
            ("no version of all", Remembered::new(u64::MAX, body)),
        ];
        for (what, stranger) in strangers {
            equal(what, &memory.refresh(&agent, "s", stranger).await?, &Some(there.clone()))?;
        }
        equal("of another session", &memory.refresh(&agent, "other", there.clone()).await?, &None)?;
        equal("of another agent", &memory.refresh(&"sales".parse()?, "s", there).await?, &None)?;
    }
    Ok(())
}

async fn memory_fresh(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let agent: AgentName = "support".parse()?;
    let (saved, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let save = async || {
        let mut version = 0;
        for number in 0..200 {
            version = stores.memory.save(&agent, "s", version, &number.to_string()).await?;
            saved.store(version, Ordering::SeqCst);
        }
        Verdict::Ok(())
    };
    let saving = async {
        let all = save().await;
        done.store(true, Ordering::SeqCst);
        all
    };
    let reader = async || {
        let (mut seen, mut looks) = (0, 0_u32);
        while !done.load(Ordering::SeqCst) {
            let floor = saved.load(Ordering::SeqCst).max(seen);
            let found = stores.memory.load(&agent, "s").await?.map_or(0, |memory| memory.version);
            ensure(found >= floor, format!("version {found} was shown after {floor}"))?;
            (seen, looks) = (found, looks + 1);
            // A cached answer does not wait: others must have their turn.
            tokio::task::yield_now().await;
        }
        ensure(looks > 0, "nobody looked")
    };
    let (all, readers) = join(saving, join_all((0..4).map(|_| reader()))).await;
    all?;
    readers.into_iter().collect::<Verdict>()?;
    let last = some("a memory", stores.memory.load(&agent, "s").await?)?;
    equal("the last", &&*last.body, &"199")
}

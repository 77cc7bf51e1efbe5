//! Lives of nodes: who holds a lease, who is over, and what of the dead may be taken over.
//!
//! A lease of no time has run out as soon as it is held; so no case waits. The life that a case begins last is the one
//! that its store writes for, and must live while it writes.

use std::time::Duration;

use futures::future::{join, join_all};

use super::sample::{acceptance, accepted, append, completion, tool_turn};
use super::{Case, Failed, Harness, Verdict, case, ensure, equal, fenced, open, reopen, some};
use crate::domain::ids::{StepId, TaskId};
use crate::domain::step::Incarnation;
use crate::store::{Acceptance, Claim, Renewal, Stores};

/// Longer than any case takes.
const LONG: Duration = Duration::from_hours(1);
/// Run out at once.
const NONE: Duration = Duration::ZERO;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("a node's life is higher than every life before", lives),
        case!("a lease that is held is renewed and not ended", held),
        case!("a lease that has run out is renewed as long as nobody has ended it", renewed_late),
        case!("a lease that has run out is ended once, by another, for good", ended),
        case!("of ending and renewing one wins", end_and_renew),
        case!("of many that end, each node is ended by one", many_end),
        case!("a second process under a name supersedes the first", superseded),
        case!("a node that was ended goes on as another incarnation", resumed),
        case!("a node that leaves leaves at once", released),
        case!("the nodes are listed in their latest lives, those that live first", listed),
        case!("a lease lasts as long as it says, from the start of its life", measured),
        case!("orphans are the running steps of nobody who lives, oldest first", orphans),
        case!("a step of a node that lives is nobody's orphan, run out or not", no_orphans),
        case!("an end is told by who has completed the step", tellers),
        case!("ends that nobody would tell are inherited once", inherited),
    ]
}

async fn of(stores: &Stores, owner: Incarnation) -> Result<Claim, Failed> {
    accepted(stores, Acceptance { owner, ..acceptance("writer")? }).await
}

async fn orphaned(stores: &Stores) -> Result<Vec<StepId>, Failed> {
    Ok(stores.steps.orphans(0, 100).await?.into_iter().map(|orphan| orphan.step.id).collect())
}

async fn lives(harness: &mut dyn Harness) -> Verdict {
    let mut stores = open(harness).await?;
    let mut last = stores.nodes.start("one", LONG).await?;
    ensure(last.0 > 0, "the first life is not above 0")?;
    for name in ["one", "two", "one", "two", "three"] {
        stores = reopen(harness, stores).await?;
        let life = stores.nodes.start(name, LONG).await?;
        ensure(life > last, format!("{name}: life {life} after {last}"))?;
        last = life;
    }
    let together = join_all(["one", "two", "one"].map(|name| stores.nodes.start(name, LONG))).await;
    let mut together = together.into_iter().collect::<Result<Vec<_>, _>>()?;
    together.push(last);
    together.sort();
    together.dedup();
    equal("lives that start at once", &(together.len(), together[0]), &(4, last))
}

async fn held(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (one, two) = (stores.nodes.start("one", LONG).await?, stores.nodes.start("two", LONG).await?);
    for own in [one, two] {
        equal("renewed", &stores.nodes.renew(own, LONG).await?, &Renewal::Held)?;
        equal("ended", &stores.nodes.end_expired(own).await?, &vec![])?;
    }
    let stores = reopen(harness, stores).await?;
    equal("after a crash of the store", &stores.nodes.renew(one, LONG).await?, &Renewal::Held)
}

async fn renewed_late(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (one, two) = (stores.nodes.start("one", NONE).await?, stores.nodes.start("two", LONG).await?);
    equal("its own is not ended", &stores.nodes.end_expired(one).await?, &vec![])?;
    equal("renewed", &stores.nodes.renew(one, LONG).await?, &Renewal::Held)?;
    equal("ended", &stores.nodes.end_expired(two).await?, &vec![])?;
    // A renewal says how long from now: it can also shorten.
    equal("shortened", &stores.nodes.renew(one, NONE).await?, &Renewal::Held)?;
    equal("ended then", &stores.nodes.end_expired(two).await?, &vec![one])
}

async fn ended(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let one = stores.nodes.start("one", NONE).await?;
    let other = stores.nodes.start("other", NONE).await?;
    let two = stores.nodes.start("two", LONG).await?;
    let mut found = stores.nodes.end_expired(two).await?;
    found.sort();
    equal("ended", &found, &vec![one, other])?;
    equal("a second time", &stores.nodes.end_expired(two).await?, &vec![])?;
    for _ in 0..2 {
        equal("renewed too late", &stores.nodes.renew(one, LONG).await?, &Renewal::TakenOver)?;
    }
    let stores = reopen(harness, stores).await?;
    equal("after a crash", &stores.nodes.renew(one, LONG).await?, &Renewal::TakenOver)?;
    equal("the others", &stores.nodes.renew(two, LONG).await?, &Renewal::Held)
}

async fn end_and_renew(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    for round in 0..20 {
        let one = stores.nodes.start(&format!("one-{round}"), NONE).await?;
        let two = stores.nodes.start("two", LONG).await?;
        let (ended, renewed) = join(stores.nodes.end_expired(two), stores.nodes.renew(one, LONG)).await;
        let (ended, renewed) = (ended?, renewed?);
        let one_wins =
            (ended == [one] && renewed == Renewal::TakenOver) || (ended.is_empty() && renewed == Renewal::Held);
        ensure(one_wins, format!("ended {ended:?}, and the renewal answers {renewed:?}"))?;
        equal("it stays so", &stores.nodes.renew(one, LONG).await?, &renewed)?;
    }
    Ok(())
}

async fn many_end(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let mut gone = Vec::new();
    for number in 0..5 {
        gone.push(stores.nodes.start(&format!("gone-{number}"), NONE).await?);
    }
    let own = stores.nodes.start("own", LONG).await?;
    let ends = join_all((0..10).map(|_| stores.nodes.end_expired(own))).await;
    let mut ended = ends.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    ended.sort();
    equal("ended", &ended, &gone)
}

async fn superseded(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let first = stores.nodes.start("one", LONG).await?;
    let claim = of(&stores, first).await?;
    equal("orphans of a life", &orphaned(&stores).await?, &vec![])?;
    let second = stores.nodes.start("one", LONG).await?;
    equal("the first", &stores.nodes.renew(first, LONG).await?, &Renewal::Superseded)?;
    equal("the second", &stores.nodes.renew(second, LONG).await?, &Renewal::Held)?;
    equal("the first goes on", &stores.nodes.resume(first, LONG).await?, &None)?;
    stores.nodes.release(first).await?;
    equal("the second after the first has left", &stores.nodes.renew(second, LONG).await?, &Renewal::Held)?;
    equal("orphans at once", &orphaned(&stores).await?, &vec![claim.step])
}

async fn resumed(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let first = stores.nodes.start("one", LONG).await?;
    let claim = of(&stores, first).await?;
    let other = stores.nodes.start("other", LONG).await?;
    stores.nodes.renew(first, NONE).await?;
    equal("ended", &stores.nodes.end_expired(other).await?, &vec![first])?;
    let second = some("another life", stores.nodes.resume(first, LONG).await?)?;
    ensure(second > other, format!("life {second} after {other}"))?;
    equal("it holds its lease", &stores.nodes.renew(second, LONG).await?, &Renewal::Held)?;
    equal("the former one", &stores.nodes.renew(first, LONG).await?, &Renewal::Superseded)?;
    equal("resumed again", &stores.nodes.resume(first, LONG).await?, &None)?;
    equal("what it had", &orphaned(&stores).await?, &vec![claim.step])?;
    let stores = reopen(harness, stores).await?;
    equal("after a crash", &stores.nodes.renew(second, LONG).await?, &Renewal::Held)
}

async fn released(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let one = stores.nodes.start("one", LONG).await?;
    let claim = of(&stores, one).await?;
    let two = stores.nodes.start("two", LONG).await?;
    stores.nodes.release(one).await?;
    stores.nodes.release(one).await?;
    equal("its work", &orphaned(&stores).await?, &vec![claim.step])?;
    equal("ended again", &stores.nodes.end_expired(two).await?, &vec![])?;
    equal("renewed", &stores.nodes.renew(one, LONG).await?, &Renewal::TakenOver)
}

async fn listed(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    equal("before any has started", &stores.nodes.list(10).await?, &vec![])?;
    let gone = stores.nodes.start("gone", LONG).await?;
    stores.nodes.start("back", LONG).await?;
    stores.nodes.release(gone).await?;
    let (late, back) = (stores.nodes.start("late", NONE).await?, stores.nodes.start("back", LONG).await?);
    let seen = stores.nodes.list(10).await?;
    let mut words: Vec<_> =
        seen.iter().map(|node| (node.name.as_str(), node.incarnation, node.is_held, node.ended_at.is_some())).collect();
    // Two that have started within one tick of the clock stand by name.
    words[..2].sort_unstable();
    equal(
        "the nodes",
        &words,
        &vec![("back", back, true, false), ("late", late, false, false), ("gone", gone, true, true)],
    )?;
    equal("at most", &stores.nodes.list(2).await?.len(), &2)
}

/// Many lives, because two readings of a clock are often the same microsecond.
async fn measured(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    for length in [LONG, NONE].repeat(20) {
        let life = stores.nodes.start("one", length).await?;
        lasts(&stores, length).await?;
        some("another life", stores.nodes.resume(life, length).await?)?;
        lasts(&stores, length).await?;
    }
    Ok(())
}

async fn lasts(stores: &Stores, length: Duration) -> Verdict {
    let node = some("the node", stores.nodes.list(1).await?.pop())?;
    equal("its lease", &(node.lease_until - node.started_at).to_std().ok(), &Some(length))?;
    equal("whether it is held", &node.is_held, &(length == LONG))
}

async fn orphans(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (one, two) = (stores.nodes.start("one", LONG).await?, stores.nodes.start("two", LONG).await?);
    let own = stores.nodes.start("own", LONG).await?;
    let mut claims = Vec::new();
    for owner in [one, two, own, one, two, one] {
        claims.push(accepted(&stores, Acceptance { owner, spec_digest: "d9".into(), ..acceptance("writer")? }).await?);
    }
    stores.steps.complete(completion(claims[3], "writer", 0)?).await?;
    equal("while all live", &orphaned(&stores).await?, &vec![])?;
    for gone in [one, two] {
        stores.nodes.release(gone).await?;
    }
    let stores = reopen(harness, stores).await?;

    let expected: Vec<StepId> = [0, 1, 4, 5].map(|number: usize| claims[number].step).to_vec();
    equal("orphans", &orphaned(&stores).await?, &expected)?;
    let found = stores.steps.orphans(0, 2).await?;
    equal("at most two", &found.iter().map(|orphan| orphan.step.id).collect::<Vec<_>>(), &expected[..2].to_vec())?;
    let first = some("the first", found.first())?;
    equal("its task", &first.task, &claims[0].task)?;
    equal("its agent", &first.agent.as_str(), &"writer")?;
    equal("its spec", &first.spec_digest.as_str(), &"d9")?;
    let task = some("the task", stores.tasks.task(claims[0].task).await?)?;
    equal("the step", &vec![first.step.clone()], &task.steps)?;
    let rest = stores.steps.orphans(found[1].place, 100).await?;
    equal("the rest", &rest.iter().map(|orphan| orphan.step.id).collect::<Vec<_>>(), &expected[2..].to_vec())?;

    let owned = stores.steps.owned(one, 0, 100).await?;
    let of_one: Vec<StepId> = [0, 5].map(|number: usize| claims[number].step).to_vec();
    equal("of one owner", &owned.iter().map(|orphan| orphan.step.id).collect::<Vec<_>>(), &of_one)?;
    let taken = some("a claim", stores.steps.claim(claims[0].step, claims[0].epoch, own).await?)?;
    equal("what is taken is no orphan", &orphaned(&stores).await?, &expected[1..].to_vec())?;
    fenced("an entry of the dead", &stores.journal.append(append(claims[0], 0, tool_turn())).await)?;
    Ok(stores.journal.append(append(taken, 0, tool_turn())).await?)
}

async fn no_orphans(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let one = stores.nodes.start("one", NONE).await?;
    let own = stores.nodes.start("own", LONG).await?;
    let (of_one, _) = (of(&stores, one).await?, of(&stores, own).await?);
    equal("run out, and not ended", &orphaned(&stores).await?, &vec![])?;
    stores.nodes.end_expired(own).await?;
    equal("ended", &orphaned(&stores).await?, &vec![of_one.step])?;
    equal("its own", &stores.steps.owned(own, 0, 100).await?.len(), &1)
}

/// Ends of steps of these owners.
async fn completed(stores: &Stores, owners: &[Incarnation]) -> Result<Vec<TaskId>, Failed> {
    let mut tasks = Vec::new();
    for owner in owners {
        let claim = of(stores, *owner).await?;
        stores.steps.complete(completion(claim, "writer", 0)?).await?;
        tasks.push(claim.task);
    }
    Ok(tasks)
}

async fn pending(stores: &Stores, teller: Incarnation) -> Result<Vec<TaskId>, Failed> {
    Ok(stores.outbox.pending(teller, i64::MIN, 100).await?.into_iter().map(|told| told.task).collect())
}

async fn tellers(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (one, two) = (stores.nodes.start("one", LONG).await?, stores.nodes.start("two", LONG).await?);
    let tasks = completed(&stores, &[one, two, one, two]).await?;
    let claim = of(&stores, one).await?;
    let taken = some("a claim", stores.steps.claim(claim.step, claim.epoch, two).await?)?;
    stores.steps.complete(completion(taken, "writer", 0)?).await?;
    equal("inherited while all live", &stores.outbox.inherit(two).await?, &0)?;
    equal("of one", &pending(&stores, one).await?, &vec![tasks[0], tasks[2]])?;
    equal("of two, which took one over", &pending(&stores, two).await?, &vec![tasks[1], tasks[3], claim.task])
}

async fn inherited(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (one, two) = (stores.nodes.start("one", NONE).await?, stores.nodes.start("two", LONG).await?);
    let own = stores.nodes.start("own", LONG).await?;
    let tasks = completed(&stores, &[one, two, own, one]).await?;
    // It has nothing to tell yet, and is for whoever claims it.
    let runs = of(&stores, one).await?;
    equal("run out, and not ended", &stores.outbox.inherit(own).await?, &0)?;
    stores.nodes.end_expired(own).await?;
    let heirs = join_all([own, two, own, two].map(|heir| stores.outbox.inherit(heir))).await;
    equal("inherited by all", &heirs.into_iter().sum::<Result<u64, _>>()?, &2)?;
    let stores = reopen(harness, stores).await?;
    let (of_two, of_own) = (pending(&stores, two).await?, pending(&stores, own).await?);
    equal("of the dead", &pending(&stores, one).await?, &vec![])?;
    let mut all = [of_two, of_own].concat();
    all.sort();
    let mut expected = tasks;
    expected.sort();
    equal("told once each", &all, &expected)?;
    equal("what runs", &orphaned(&stores).await?, &vec![runs.step])?;
    let taken = some("a claim", stores.steps.claim(runs.step, runs.epoch, own).await?)?;
    stores.steps.complete(completion(taken, "writer", 0)?).await?;
    ensure(pending(&stores, own).await?.contains(&runs.task), "who claims a step of the dead tells its end")
}

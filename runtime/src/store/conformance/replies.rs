//! Replies: sent, certainly not sent, or in doubt; and the doubt is counted.

use super::{Case, Harness, Verdict, case, equal, open, reopen, some};
use crate::domain::ids::TaskId;
use crate::store::{ReplyOutcome, ReplyRow, ReplyState};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("a reply that was sent is not sent again", sent),
        case!("a try that ended without an answer leaves a doubt", doubtful),
        case!("a refused try leaves none", not_sent),
        case!("what was given up stays so, unless it turns out sent", given_up),
        case!("replies of different tasks are apart", apart),
    ]
}

fn some_task(number: u32) -> TaskId {
    TaskId::derive(&format!("reply-{number}"), "writer")
}

async fn sent(harness: &mut dyn Harness) -> Verdict {
    let (stores, task) = (open(harness).await?, some_task(1));
    equal("at first", &stores.replies.reply(task).await?, &None)?;
    equal("the first try", &stores.replies.begin(task).await?, &ReplyState::Clear)?;
    let sending = some("a row", stores.replies.reply(task).await?)?;
    equal("during the call", &(sending.status.as_str(), sending.attempts), &("sending", 1))?;
    stores.replies.settle(task, ReplyOutcome::Sent { ts: Some("1700.1".to_owned()) }).await?;
    let stores = reopen(harness, stores).await?;
    equal("another try", &stores.replies.begin(task).await?, &ReplyState::Sent)?;
    stores.replies.settle(task, ReplyOutcome::NotSent { error: "late".to_owned() }).await?;
    stores.replies.settle(task, ReplyOutcome::GivenUp { error: "late".to_owned() }).await?;
    let row = ReplyRow {
        status: "sent".to_owned(),
        attempts: 1,
        doubtful: 0,
        ts: Some("1700.1".to_owned()),
        last_error: None,
    };
    equal("the row", &stores.replies.reply(task).await?, &Some(row))
}

async fn doubtful(harness: &mut dyn Harness) -> Verdict {
    let (stores, task) = (open(harness).await?, some_task(1));
    equal("the first try", &stores.replies.begin(task).await?, &ReplyState::Clear)?;
    let stores = reopen(harness, stores).await?;
    equal("after a crash", &stores.replies.begin(task).await?, &ReplyState::Doubtful)?;
    let stores = reopen(harness, stores).await?;
    equal("after another", &stores.replies.begin(task).await?, &ReplyState::Doubtful)?;
    stores.replies.settle(task, ReplyOutcome::Sent { ts: None }).await?;
    let row = some("a row", stores.replies.reply(task).await?)?;
    equal("the counts", &(row.status.as_str(), row.attempts, row.doubtful), &("sent", 3, 2))
}

async fn not_sent(harness: &mut dyn Harness) -> Verdict {
    let (stores, task) = (open(harness).await?, some_task(1));
    for number in 1..=3 {
        equal("a try", &stores.replies.begin(task).await?, &ReplyState::Clear)?;
        let error = format!("429, the {number}. time: 'later'");
        stores.replies.settle(task, ReplyOutcome::NotSent { error: error.clone() }).await?;
        let row =
            ReplyRow { status: "pending".to_owned(), attempts: number, doubtful: 0, ts: None, last_error: Some(error) };
        equal("the row", &stores.replies.reply(task).await?, &Some(row))?;
    }
    Ok(())
}

async fn given_up(harness: &mut dyn Harness) -> Verdict {
    let (stores, task) = (open(harness).await?, some_task(1));
    stores.replies.begin(task).await?;
    stores.replies.settle(task, ReplyOutcome::GivenUp { error: "no such channel".to_owned() }).await?;
    equal("another try", &stores.replies.begin(task).await?, &ReplyState::GivenUp)?;
    stores.replies.settle(task, ReplyOutcome::NotSent { error: "late".to_owned() }).await?;
    equal("and another", &stores.replies.begin(task).await?, &ReplyState::GivenUp)?;
    let row = some("a row", stores.replies.reply(task).await?)?;
    let expected = ("given_up", 1, Some("no such channel"));
    equal("the row", &(row.status.as_str(), row.attempts, row.last_error.as_deref()), &expected)?;
    stores.replies.settle(task, ReplyOutcome::Sent { ts: None }).await?;
    equal("found in the thread", &stores.replies.begin(task).await?, &ReplyState::Sent)?;

    // Given up before any try: there was nowhere to send it.
    let nowhere = some_task(2);
    stores.replies.settle(nowhere, ReplyOutcome::GivenUp { error: "no token".to_owned() }).await?;
    equal("never tried", &stores.replies.begin(nowhere).await?, &ReplyState::GivenUp)
}

async fn apart(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let begun = (0..20).map(|number| stores.replies.begin(some_task(number % 10)));
    let states = futures::future::join_all(begun).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    equal("first tries", &states.iter().filter(|state| **state == ReplyState::Clear).count(), &10)?;
    equal("second tries", &states.iter().filter(|state| **state == ReplyState::Doubtful).count(), &10)?;
    stores.replies.settle(some_task(3), ReplyOutcome::Sent { ts: None }).await?;
    equal("the settled one", &stores.replies.begin(some_task(3)).await?, &ReplyState::Sent)?;
    equal("its neighbour", &stores.replies.begin(some_task(4)).await?, &ReplyState::Doubtful)
}

//! What goes into one transaction: operations of one kind together, with where their replies go.
//!
//! The queue holds single operations behind a face; what leaves it together is merged into one group a kind and executed
//! by that kind. Who calls: [`Intake`](super::Intake) makes batches, the writers execute and settle them. A batch that is
//! dropped unsettled answers [`Session::closed`] to everybody in it.

use std::any::{Any, TypeId, type_name};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{Operation, Session};

/// What goes into one transaction.
pub struct Batch<S: Session> {
    groups: Vec<Box<dyn Group<S>>>,
}

impl<S: Session> Batch<S> {
    /// Merges what was taken from the queue into one group a kind, in the order in which the kinds first came.
    pub(super) fn of(taken: &mut Vec<Box<dyn Group<S>>>) -> Self {
        let mut groups: Vec<Box<dyn Group<S>>> = Vec::with_capacity(8);
        for job in taken.drain(..) {
            match groups.iter_mut().find(|group| group.kind() == job.kind()) {
                Some(group) => group.absorb(job),
                None => groups.push(job),
            }
        }
        Self { groups }
    }

    /// Operations in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.iter().map(|group| group.len()).sum()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of the only operation in it, if that one is a single statement ([`Operation::rows_alone`]).
    #[must_use]
    pub fn rows_alone(&self) -> Option<u64> {
        match self.groups.as_slice() {
            [only] => only.rows_alone(),
            _ => None,
        }
    }

    /// Executes every group; the answers wait for [`Batch::settle`].
    ///
    /// # Errors
    /// The first group's error that fails.
    pub async fn execute(&mut self, session: &mut S) -> Result<(), S::Error> {
        for group in &mut self.groups {
            group.execute(session).await?;
        }
        Ok(())
    }

    /// Executes the only operation in it without a transaction around it; `false` when that changed nothing, and the
    /// operation has to be executed in one.
    ///
    /// # Errors
    /// Its error; what it has written is then not known.
    pub async fn execute_alone(&mut self, session: &mut S) -> Result<bool, S::Error> {
        match self.groups.as_mut_slice() {
            [only] => only.execute_alone(session).await,
            _ => Ok(false),
        }
    }

    /// The transaction is over: replies go out.
    pub fn settle(self, result: &Result<(), S::Error>) {
        for group in self.groups {
            group.settle(result.clone());
        }
    }

    /// Takes out what is under the node's lease.
    #[must_use]
    pub fn split_leased(&mut self) -> Self {
        let (leased, free) = std::mem::take(&mut self.groups).into_iter().partition(|group| group.is_under_lease());
        self.groups = free;
        Self { groups: leased }
    }

    /// Each operation alone, so that one bad operation fails alone.
    #[must_use]
    pub fn split(self) -> Vec<Self> {
        self.groups.into_iter().flat_map(Group::split).map(|single| Self { groups: vec![single] }).collect()
    }
}

/// Operations of one kind, with where their replies go, behind a face that the queue can hold.
#[async_trait]
pub(super) trait Group<S: Session>: Send {
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send>;
    /// Takes in `other`, which is of the same kind.
    fn absorb(&mut self, other: Box<dyn Group<S>>);
    fn kind(&self) -> TypeId;
    fn is_under_lease(&self) -> bool;
    fn len(&self) -> usize;
    fn rows_alone(&self) -> Option<u64>;
    async fn execute(&mut self, session: &mut S) -> Result<(), S::Error>;
    async fn execute_alone(&mut self, session: &mut S) -> Result<bool, S::Error>;
    fn settle(self: Box<Self>, result: Result<(), S::Error>);
    fn split(self: Box<Self>) -> Vec<Box<dyn Group<S>>>;
}

/// Where the reply of an operation goes.
type Reply<S, W> = oneshot::Sender<Result<<W as Operation<S>>::Reply, <S as Session>::Error>>;

struct Jobs<S: Session, W: Operation<S>> {
    operations: Vec<W>,
    replies: Vec<Reply<S, W>>,
    answers: Vec<W::Reply>,
}

impl<S: Session, W: Operation<S>> Default for Jobs<S, W> {
    fn default() -> Self {
        Self { operations: Vec::new(), replies: Vec::new(), answers: Vec::new() }
    }
}

#[async_trait]
impl<S: Session, W: Operation<S>> Group<S> for Jobs<S, W> {
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }

    fn absorb(&mut self, other: Box<dyn Group<S>>) {
        if let Ok(more) = other.into_any().downcast::<Self>() {
            self.operations.extend(more.operations);
            self.replies.extend(more.replies);
        }
    }

    fn kind(&self) -> TypeId {
        TypeId::of::<W>()
    }

    fn is_under_lease(&self) -> bool {
        W::UNDER_LEASE
    }

    fn len(&self) -> usize {
        self.operations.len()
    }

    fn rows_alone(&self) -> Option<u64> {
        match self.operations.as_slice() {
            [only] => only.rows_alone(),
            _ => None,
        }
    }

    async fn execute(&mut self, session: &mut S) -> Result<(), S::Error> {
        if self.operations.is_empty() {
            return Ok(());
        }
        let batch: Vec<&W> = self.operations.iter().collect();
        self.answers = W::execute(&batch, session).await?;
        if self.answers.len() == self.operations.len() { Ok(()) } else { Err(S::miscounted(type_name::<W>())) }
    }

    async fn execute_alone(&mut self, session: &mut S) -> Result<bool, S::Error> {
        let [only] = self.operations.as_slice() else { return Ok(false) };
        self.answers = only.execute_alone(session).await?.into_iter().collect();
        Ok(!self.answers.is_empty())
    }

    fn settle(self: Box<Self>, result: Result<(), S::Error>) {
        match result {
            Ok(()) => {
                for (reply, answer) in self.replies.into_iter().zip(self.answers) {
                    reply.send(Ok(answer)).ok();
                }
            }
            Err(error) => {
                for reply in self.replies {
                    reply.send(Err(error.clone())).ok();
                }
            }
        }
    }

    fn split(self: Box<Self>) -> Vec<Box<dyn Group<S>>> {
        let single = |(operation, reply)| -> Box<dyn Group<S>> {
            Box::new(Self { operations: vec![operation], replies: vec![reply], answers: Vec::new() })
        };
        self.operations.into_iter().zip(self.replies).map(single).collect()
    }
}

/// One operation, as the queue holds it.
pub(super) fn single<S: Session, W: Operation<S>>(operation: W, reply: Reply<S, W>) -> Box<dyn Group<S>> {
    Box::new(Jobs { operations: vec![operation], replies: vec![reply], answers: Vec::new() })
}

/// What a closing writer is woken with.
pub(super) fn nothing<S: Session>() -> Box<dyn Group<S>> {
    Box::new(Jobs::<S, Nothing>::default())
}

/// No operation at all.
struct Nothing;

#[async_trait]
impl<S: Session> Operation<S> for Nothing {
    type Reply = ();

    async fn execute(batch: &[&Self], _session: &mut S) -> Result<Vec<()>, S::Error> {
        Ok(vec![(); batch.len()])
    }
}

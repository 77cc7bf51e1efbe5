//! Mutants of the promises about lives of nodes: numbers that rise, leases that end, work that is only the dead's to lose.
//!
//! Chosen by [`Mutant::hand`](super::Mutant::hand); the conformance suite must condemn each.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use troupe_runtime::domain::step::Incarnation;
use troupe_runtime::store::{Error, Orphan, Renewal, Stores, Told};

use super::{raw, raw_error};
use crate::tampered::Hand;

pub(super) struct LifeRepeated;

#[async_trait]
impl Hand for LifeRepeated {
    async fn start(&self, stores: &Stores, name: &str, ttl: Duration) -> Result<Incarnation, Error> {
        stores.nodes.start(name, ttl).await.map(|_| Incarnation(1))
    }
}

pub(super) struct LeaseForgiven;

#[async_trait]
impl Hand for LeaseForgiven {
    async fn renew(&self, stores: &Stores, own: Incarnation, ttl: Duration) -> Result<Renewal, Error> {
        match stores.nodes.renew(own, ttl).await? {
            Renewal::TakenOver => Ok(Renewal::Held),
            answer => Ok(answer),
        }
    }
}

pub(super) struct LivingEnded;

#[async_trait]
impl Hand for LivingEnded {
    async fn end_expired(&self, stores: &Stores, own: Incarnation) -> Result<Vec<Incarnation>, Error> {
        for other in (1..own.0 + 8).map(Incarnation).filter(|other| *other != own) {
            stores.nodes.renew(other, Duration::ZERO).await?;
        }
        stores.nodes.end_expired(own).await
    }
}

pub(super) struct LivingRobbed {
    pub(super) file: PathBuf,
}

#[async_trait]
impl Hand for LivingRobbed {
    async fn orphans(&self, stores: &Stores, after: i64, limit: usize) -> Result<Vec<Orphan>, Error> {
        let owners = "select distinct owner from steps where status = 'running'";
        let owners = sqlx::query_scalar(owners).fetch_all(&mut raw(&self.file).await?).await;
        let mut found = Vec::new();
        for owner in owners.map_err(|error| raw_error(&error))? {
            found.extend(stores.steps.owned(Incarnation(owner), after, limit).await?);
        }
        found.sort_by_key(|orphan| orphan.place);
        found.truncate(limit);
        Ok(found)
    }
}

pub(super) struct EndsOfOthers {
    pub(super) file: PathBuf,
}

#[async_trait]
impl Hand for EndsOfOthers {
    async fn pending(
        &self,
        stores: &Stores,
        teller: Incarnation,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Told>, Error> {
        let mut file = raw(&self.file).await?;
        let all = sqlx::query("update outbox set owner = ?").bind(teller.0).execute(&mut file).await;
        all.map_err(|error| raw_error(&error))?;
        stores.outbox.pending(teller, after, limit).await
    }
}

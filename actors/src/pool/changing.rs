//! What becomes of the companies when the roster changes, and of work for an agent that is not there any more.
//!
//! ```text
//!            added            changed                         removed            its steps have ended
//!   nobody ────────► company ────────► the same company ────────► retired ────────────────────► nobody
//!                       ▲                                            │
//!                       └────────────────── added again ─────────────┘
//! ```
//!
//! A change ends nothing: what is under way has its spec with it ([`Work`]), agent actors know none, and the
//! inbox reads its terms before it takes the next event. So a changed company keeps its actors, gets more of them or lets some
//! go when their work is done. A retired one takes nothing, and leaves when it has nothing in hand. Work that the recovery has
//! found for an agent that is not configured makes a company that is retired from the start.
//!
//! Called by the pool alone. What cannot be started is charged to its budget, as ever.

use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorProcessingErr, ActorRef};
use troupe_runtime::supervision::Children;

use super::company::{Company, inbox_budget, places, seats, terms};
use super::{Pool, PoolMessage, Troop};
use crate::places::Places;
use crate::roster::Member;
use crate::stage::Stage;
use crate::work::Work;

/// How often those that leave are looked at.
const TIDY_EVERY: Duration = Duration::from_millis(100);

impl Pool {
    /// Makes the companies what the roster says.
    pub(super) async fn follow_roster(
        &self,
        myself: &ActorRef<PoolMessage>,
        troop: &mut Troop,
    ) -> Result<(), ActorProcessingErr> {
        let wanted = self.roster.of_pool(self.id);
        for (name, company) in &mut troop.companies {
            if !wanted.contains_key(name) {
                company.retire();
            }
        }
        for (name, member) in wanted {
            match troop.companies.get_mut(&name) {
                Some(company) if company.is(&member) => continue,
                Some(company) => {
                    company.change(member, &self.stage);
                    self.renew(troop, &name).await?;
                }
                None => drop(troop.companies.insert(name.clone(), Company::new(member, self.id, &self.stage))),
            }
            self.fill(myself, troop, &name).await?;
        }
        self.tidy(myself, troop).await
    }

    /// Has a company for this work, whoever is configured.
    pub(super) fn welcome(&self, troop: &mut Troop, work: &Work) {
        let name = work.served.spec.name.as_str();
        if troop.companies.contains_key(name) {
            return;
        }
        tracing::info!(agent = name, step_id = %work.claim.step, "the agent is not configured; its step is finished");
        let member = Member { spec: work.served.spec.clone(), served: Ok(work.served.clone()) };
        let mut company = Company::new(member, self.id, &self.stage);
        company.retire();
        troop.companies.insert(name.to_owned(), company);
        // Its actors are started after this message.
        troop.ended.insert(name.to_owned());
    }

    /// What is left to be done when something has ended, or somebody has come.
    pub(super) async fn after(
        &self,
        myself: &ActorRef<PoolMessage>,
        troop: &mut Troop,
    ) -> Result<(), ActorProcessingErr> {
        if troop.ended.is_empty() {
            return Ok(());
        }
        let mut gone = Vec::new();
        for name in std::mem::take(&mut troop.ended) {
            match troop.companies.get(&name) {
                Some(company) if !company.retired => self.fill(myself, troop, &name).await?,
                Some(company) if !company.has_children(&troop.children) => gone.push(name),
                _ => {}
            }
        }
        if !gone.is_empty() {
            let busy = self.stage.in_hand.agents(self.id);
            gone.into_iter().filter(|name| !busy.contains(name)).for_each(|name| drop(troop.companies.remove(&name)));
        }
        // A look is on its way: one for each of a thousand that end would be a thousand looks at all of them.
        if troop.tidying { Ok(()) } else { self.tidy(myself, troop).await }
    }

    /// Starts whoever of a company is not there.
    async fn fill(
        &self,
        myself: &ActorRef<PoolMessage>,
        troop: &mut Troop,
        name: &str,
    ) -> Result<(), ActorProcessingErr> {
        let Some(company) = troop.companies.get(name) else { return Ok(()) };
        for spec in company.child_specs(&self.stage, myself) {
            // One that is being brought down has its name until it has ended; then this is done once more.
            if !troop.children.has(&spec.id) {
                let events = troop.children.start(spec).await?;
                self.changed(troop, events);
            }
        }
        Ok(())
    }

    /// A changed agent has its new budget, whole, and whoever was given up is tried again.
    async fn renew(&self, troop: &mut Troop, name: &str) -> Result<(), ActorProcessingErr> {
        let Some(company) = troop.companies.get(name) else { return Ok(()) };
        let budget = company.budget();
        let mut ids: Vec<_> = company.seats.iter().map(|(_, id)| (id.clone(), budget)).collect();
        ids.push((company.inbox_id(), inbox_budget(budget)));
        for (id, budget) in ids {
            if troop.children.has(&id) {
                let events = troop.children.renew(&id, budget).await?;
                self.changed(troop, events);
            }
        }
        Ok(())
    }

    /// Lets those go that leave and have finished; looks again as long as there are any.
    pub(super) async fn tidy(
        &self,
        myself: &ActorRef<PoolMessage>,
        troop: &mut Troop,
    ) -> Result<(), ActorProcessingErr> {
        if troop.companies.values().all(|company| !company.retired && company.leaving.is_empty()) {
            return Ok(());
        }
        let busy = self.stage.in_hand.agents(self.id);
        let leaving: Vec<String> =
            troop.companies.iter().filter(|(_, company)| company.retired).map(|(name, _)| name.clone()).collect();
        for name in leaving {
            if busy.contains(&name) {
                self.fill(myself, troop, &name).await?;
            }
        }
        let mut going = Vec::new();
        for (name, company) in &mut troop.companies {
            let idle = |(seat, _): &&(_, _)| self.stage.in_hand.of_seat(seat).is_empty();
            going.extend(company.leaving.iter().filter(idle).map(|(_, id)| id.clone()));
            if company.retired && !busy.contains(name) {
                going.extend(company.child_ids());
            }
        }
        for id in going {
            if troop.children.has(&id) {
                let events = troop.children.remove(&id).await?;
                self.changed(troop, events);
            }
        }
        let Troop { children, companies, .. } = troop;
        for company in companies.values_mut() {
            company.leaving.retain(|(_, id)| children.has(id));
        }
        companies.retain(|name, company| !company.retired || busy.contains(name) || company.has_children(children));
        let more = companies.values().any(|company| company.retired || !company.leaving.is_empty());
        if more && !troop.tidying {
            troop.tidying = true;
            drop(myself.send_after(TIDY_EVERY, || PoolMessage::Tidy));
        }
        Ok(())
    }
}

impl Company {
    /// Whether this is the agent as it is wanted.
    fn is(&self, member: &Member) -> bool {
        let same = Arc::ptr_eq(&self.member.spec, &member.spec) || self.member.spec == member.spec;
        same && !self.retired
    }

    /// Another spec, for all that begins from now on.
    fn change(&mut self, member: Member, stage: &Stage) {
        let wanted = seats(&member.spec, self.pool());
        let surplus = self.seats.drain(..).filter(|seat| !wanted.contains(seat));
        self.leaving.extend(surplus);
        self.leaving.retain(|seat| !wanted.contains(seat));
        self.seats = wanted;
        // With as many places as before they are the same ones: who works in order has one, whatever its spec.
        let (at_work, ahead) = places(&member.spec, stage);
        if !self.places.are(at_work, ahead) {
            self.places = Places::new(at_work, ahead);
        }
        self.prepared.change(member.spec.clone(), member.served.as_ref().ok().cloned());
        self.gate.send_modify(|gate| gate.terms = terms(&member, &self.places));
        (self.member, self.retired) = (member, false);
    }

    /// No more work; what is under way is finished.
    fn retire(&mut self) {
        self.retired = true;
        self.gate.send_if_modified(|gate| gate.terms.take().is_some());
    }

    fn has_children(&self, children: &Children) -> bool {
        let seats = self.seats.iter().chain(&self.leaving).map(|(_, id)| id.as_str());
        let inbox = self.inbox_id();
        seats.chain([inbox.as_str()]).any(|id| children.has(id))
    }
}

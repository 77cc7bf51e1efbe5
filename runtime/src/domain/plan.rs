//! The plan of a run: its steps, who does them, and what each needs from the others.
//!
//! A plan is data that is checked once and then only read; which steps may start is a pure function of which are done.
//! Steps with ready inputs run in parallel. Runs of autonomous agents have the plan [`Plan::single`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::agent::AgentName;

/// Steps that a plan may have.
pub const STEPS_MAX: usize = 64;

/// Ordered steps of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<PlanStep>", into = "Vec<PlanStep>")]
pub struct Plan(Vec<PlanStep>);

/// One piece of a run, for one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// What is to be done.
    pub task: String,
    /// The part it plays in the run.
    pub role: Role,
    /// Who does it.
    pub agent: AgentName,
    /// Names of outputs of earlier steps that it needs.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// The name of what it makes; unique in the plan.
    pub output: String,
}

/// The part that a step plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The lead makes the plan.
    Plan,
    /// An agent does its piece.
    Work,
    /// The lead makes one answer of the pieces.
    Aggregate,
}

/// Why steps are no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPlan {
    /// None, or more than [`STEPS_MAX`].
    #[error("a plan has 1 to {STEPS_MAX} steps, this one has {0}")]
    Length(usize),
    /// Two steps make the same thing.
    #[error("steps {first} and {second} both make {output:?}")]
    Output {
        /// The earlier step, from 0.
        first: usize,
        /// The later one.
        second: usize,
        /// What both make.
        output: String,
    },
    /// A step needs what no earlier step makes.
    #[error("step {step} needs {input:?}, which no earlier step makes")]
    Input {
        /// The step, from 0.
        step: usize,
        /// What it needs.
        input: String,
    },
}

impl Plan {
    /// The plan of a run that one agent does alone.
    #[must_use]
    pub fn single(agent: AgentName, task: String) -> Self {
        Self(vec![PlanStep { task, role: Role::Work, agent, inputs: Vec::new(), output: "answer".to_owned() }])
    }

    /// The steps in order.
    #[must_use]
    pub fn steps(&self) -> &[PlanStep] {
        &self.0
    }

    /// The steps that may start: not begun, every input made.
    #[must_use]
    pub fn ready(&self, begun: &BTreeSet<usize>, done: &BTreeSet<usize>) -> Vec<usize> {
        let made: BTreeSet<&str> = done.iter().filter_map(|n| self.0.get(*n)).map(|s| s.output.as_str()).collect();
        let may_start = |step: &PlanStep| step.inputs.iter().all(|input| made.contains(input.as_str()));
        (self.0.iter().enumerate())
            .filter(|(n, step)| !begun.contains(n) && !done.contains(n) && may_start(step))
            .map(|(n, _)| n)
            .collect()
    }
}

impl TryFrom<Vec<PlanStep>> for Plan {
    type Error = BadPlan;

    fn try_from(steps: Vec<PlanStep>) -> Result<Self, BadPlan> {
        if steps.is_empty() || steps.len() > STEPS_MAX {
            return Err(BadPlan::Length(steps.len()));
        }
        for (second, step) in steps.iter().enumerate() {
            let earlier = &steps[..second];
            if let Some(first) = earlier.iter().position(|other| other.output == step.output) {
                return Err(BadPlan::Output { first, second, output: step.output.clone() });
            }
            if let Some(input) = step.inputs.iter().find(|input| earlier.iter().all(|other| other.output != **input)) {
                return Err(BadPlan::Input { step: second, input: input.clone() });
            }
        }
        Ok(Self(steps))
    }
}

impl From<Plan> for Vec<PlanStep> {
    fn from(plan: Plan) -> Self {
        plan.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn step(output: &str, inputs: &[&str]) -> PlanStep {
        PlanStep {
            task: format!("make {output}"),
            role: Role::Work,
            agent: "worker".parse().unwrap(),
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: output.to_owned(),
        }
    }

    fn set(numbers: &[usize]) -> BTreeSet<usize> {
        numbers.iter().copied().collect()
    }

    #[test]
    fn steps_start_when_their_inputs_are_made() {
        let plan = Plan::try_from(vec![step("a", &[]), step("b", &[]), step("c", &["a", "b"])]).unwrap();
        assert_eq!(plan.ready(&set(&[]), &set(&[])), [0, 1]);
        assert_eq!(plan.ready(&set(&[0, 1]), &set(&[0])), [0_usize; 0]);
        assert_eq!(plan.ready(&set(&[0, 1]), &set(&[0, 1])), [2]);
        assert_eq!(Plan::single("solo".parse().unwrap(), "x".into()).ready(&set(&[]), &set(&[])), [0]);
    }

    #[test]
    fn bad_plans_are_named() {
        assert_eq!(Plan::try_from(vec![]), Err(BadPlan::Length(0)));
        let twice = Plan::try_from(vec![step("a", &[]), step("a", &[])]);
        assert_eq!(twice, Err(BadPlan::Output { first: 0, second: 1, output: "a".into() }));
        let forward = Plan::try_from(vec![step("a", &["b"]), step("b", &[])]);
        assert_eq!(forward, Err(BadPlan::Input { step: 0, input: "b".into() }));
    }

    proptest! {
        /// Inputs point backwards only, so any plan that passes the check can be worked off to its end.
        #[test]
        fn every_plan_can_be_finished(links in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..3), 1..20)) {
            let name = |n: usize| format!("o{n}");
            let steps = links.iter().enumerate().map(|(n, link)| {
                let inputs: Vec<String> = if n == 0 { vec![] } else { link.iter().map(|i| name(i.index(n))).collect() };
                step(&name(n), &inputs.iter().map(String::as_str).collect::<Vec<_>>())
            });
            let plan = Plan::try_from(steps.collect::<Vec<_>>()).unwrap();
            let mut done = BTreeSet::new();
            while done.len() < plan.steps().len() {
                let ready = plan.ready(&BTreeSet::new(), &done);
                prop_assert!(!ready.is_empty());
                done.extend(ready);
            }
        }
    }
}

//! The demo's one agent: written as a newcomer would write it, in YAML, and read by the product's own reader.
//!
//! Called by the scene. A mistake in it is a mistake of ours, shown as every problem of a spec is.

use std::sync::Arc;

use troupe_runtime::config::{Agents, Sources, parse_agent};
use troupe_runtime::domain::agent::AgentSpec;
use troupe_runtime::secret::Secrets;

use super::Trouble;

/// The agent's name.
pub(super) const NAME: &str = "guide";
/// The slash command that reaches it.
pub(super) const COMMAND: &str = "/demo";
/// What it is asked.
pub(super) const QUESTION: &str = "what happens to your work when somebody kills you?";

/// Long enough to be killed in, on a busy machine too.
const WAIT_SECONDS: &str = "1.2";

const SCRIPTED: &str = r"  provider: scripted
  model: demo
  script:
    - when: ^waited
      reply: >-
        Nothing is lost. I was killed while I worked on this, my pool started me again, and I went on from my journal:
        what the model had said before, it was not asked again.
      delay: 150ms
    - tool: {name: wait, arguments: {seconds: WAIT}}
      delay: 150ms
";

const INSTRUCTIONS: &str = "\
You are an agent in a demonstration of Troupe, a runtime that journals every model call of its agents and resumes them
after a crash. First call the tool `wait` once, with seconds = WAIT. When it has answered, answer the question in two
short, friendly sentences.";

/// What a role needs to be played.
pub(super) struct Role {
    /// The agent.
    spec: String,
    secrets: Secrets,
    voice: String,
    live: bool,
}

impl Role {
    /// Rules instead of a model.
    pub(super) fn scripted() -> Self {
        let secrets = Secrets::new(Vec::new());
        Self { spec: spec(SCRIPTED), secrets, voice: "a scripted model".to_owned(), live: false }
    }

    /// A real model, by the key that is set.
    pub(super) fn live(sources: &Sources, model: Option<String>) -> Result<Self, Trouble> {
        let provider =
            [("anthropic", "ANTHROPIC_API_KEY", "claude-sonnet-4-5"), ("openai", "OPENAI_API_KEY", "gpt-5-mini")];
        let secrets = sources.secrets();
        let known = provider.into_iter().find(|(_, key, _)| secrets.setting(key).is_some());
        let (provider, key, usual) = known.ok_or(Trouble::NoKey)?;
        let model = model.unwrap_or_else(|| usual.to_owned());
        // JSON's quotes are YAML's.
        let quoted = serde_json::Value::String(model.clone());
        let config =
            format!("  provider: {provider}\n  model: {quoted}\n  api_key: ${{{key}}}\n  max_output_tokens: 1024\n");
        Ok(Self { spec: spec(&config), secrets, voice: format!("{provider}/{model}"), live: true })
    }

    /// Who speaks: the model.
    pub(super) fn voice(&self) -> &str {
        &self.voice
    }

    /// Whether a real model speaks.
    pub(super) const fn is_live(&self) -> bool {
        self.live
    }

    /// Values for the spec's references.
    pub(super) fn secrets(&self) -> Secrets {
        self.secrets.clone()
    }

    /// The spec as `config/agents/guide.yaml` would give it.
    pub(super) fn read(&self) -> Result<AgentSpec, Trouble> {
        Ok(parse_agent("the demo's agent", &self.spec, &Agents::default())?)
    }

    /// Masks the role's secrets in the demo's log.
    pub(super) fn redact(&self) -> troupe_runtime::telemetry::logs::Redact {
        let redactor = self.secrets.redactor();
        Arc::new(move |text| redactor.mask(text))
    }
}

fn spec(llm_config: &str) -> String {
    let instructions = INSTRUCTIONS.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n");
    format!(
        "name: {NAME}\ntype: demo\nexecution_mode: autonomous\nllm_config:\n{llm_config}instructions: |\n{instructions}\n\
         subscriptions: [slack.events.command.demo]\ninstances: 1\ntools: [{{builtin: wait}}]\nlimits: {{turns: 6, timeout: 2m}}\n"
    )
    .replace("WAIT", WAIT_SECONDS)
}

#[cfg(test)]
mod tests {
    use troupe_runtime::domain::agent::ProviderKind;

    use super::*;

    fn keys(pairs: &[(&str, &str)]) -> Sources {
        let env = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Sources { env, ..Sources::default() }
    }

    #[test]
    fn the_scripted_agent_is_a_valid_one() {
        let spec = Role::scripted().read().unwrap();
        assert_eq!(spec.name.as_str(), NAME);
        assert_eq!(spec.models[0].script.len(), 2);
        assert_eq!(spec.instances, 1);
    }

    #[test]
    fn a_live_one_takes_the_key_that_is_set() {
        let role = Role::live(&keys(&[("OPENAI_API_KEY", "k")]), Some("my: \"model\"".into())).unwrap();
        let spec = role.read().unwrap();
        assert_eq!(spec.models[0].provider, ProviderKind::Openai);
        assert_eq!(spec.models[0].model, "my: \"model\"");
        let role = Role::live(&keys(&[("OPENAI_API_KEY", "k"), ("ANTHROPIC_API_KEY", "a")]), None).unwrap();
        assert_eq!(role.read().unwrap().models[0].provider, ProviderKind::Anthropic);
    }

    #[test]
    fn without_a_key_it_says_which() {
        let Err(error) = Role::live(&keys(&[("OPENAI_API_KEY", "")]), None) else { panic!("an empty key is none") };
        assert!(error.to_string().contains("OPENAI_API_KEY"), "{error}");
    }
}

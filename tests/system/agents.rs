//! The agents of the system tests.

/// Answers every question at once, by rule.
pub(crate) const ECHO: &str = r#"
name: echo
type: test
execution_mode: autonomous
llm_config:
  provider: scripted
  model: rules
  script:
    - reply: "echo: {input}"
instructions: Say it again.
subscriptions: [slack.events.command.echo]
"#;

/// Thinks for a second, twice, with a tool call in between.
pub(crate) const SLOW: &str = r"
name: slow
type: test
execution_mode: autonomous
llm_config:
  provider: scripted
  model: rules
  script:
    - {when: ^please, tool: {name: clock, arguments: {}}, delay: 1s}
    - {reply: slowly done, delay: 1s}
instructions: Take your time.
tools: [{builtin: clock}]
";

/// Asks a model server for two turns, with a tool call in between.
pub(crate) fn two_turns(base_url: &str) -> String {
    format!(
        r#"
name: crasher
type: test
execution_mode: autonomous
llm_config:
  provider: openai
  model: stand-in
  base_url: "{base_url}"
  api_key: ${{STAND_IN_KEY}}
  timeout: 10s
instructions: Look at the clock, then answer.
subscriptions: [slack.events.command.crash]
instances: 2
tools: [{{builtin: clock}}]
reply: {{slack: thread}}
"#
    )
}

//! As much of Prometheus' text as the demo reads: the sum of a counter over the lines of one agent.
//!
//! Called by the performance, which counts model calls from the outside as an operator would.

/// The sum of `name` over every line that has the label `key="value"`; `None` when there is no such line.
pub(super) fn sum(text: &str, name: &str, key: &str, value: &str) -> Option<u64> {
    let wanted = format!("{key}=\"{value}\"");
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?.strip_prefix('{')?;
        let (labels, number) = rest.rsplit_once('}')?;
        let mine = labels.split(',').any(|label| label.trim() == wanted);
        let number: f64 = number.split_whitespace().next()?.parse().ok()?;
        (mine && number >= 0.0).then_some(number as u64)
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP troupe_scripted_model_calls_total Calls
# TYPE troupe_scripted_model_calls_total counter
troupe_scripted_model_calls_total{agent=\"guide\",rule=\"0\"} 1
troupe_scripted_model_calls_total{agent=\"guide\",rule=\"1\"} 2 1700000000000
troupe_scripted_model_calls_total{agent=\"other\",rule=\"0\"} 40
troupe_scripted_model_calls_total_more{agent=\"guide\"} 9
agent_queue_depth{agent=\"guide\"} 3
";

    #[test]
    fn lines_of_one_agent_are_added_up() {
        assert_eq!(sum(TEXT, "troupe_scripted_model_calls_total", "agent", "guide"), Some(3));
        assert_eq!(sum(TEXT, "troupe_scripted_model_calls_total", "agent", "nobody"), None);
        assert_eq!(sum(TEXT, "nothing", "agent", "guide"), None);
        assert_eq!(sum("x{agent=\"guide\"} oops", "x", "agent", "guide"), None);
    }
}

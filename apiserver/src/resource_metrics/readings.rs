//! One reading of a kubelet's `/metrics/resource`: counters at a time. Pure.

use std::collections::BTreeMap;

/// Namespace, pod and container.
pub type ContainerKey = (String, String, String);

/// Counters of one container, or of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// Seconds of processor time since the start.
    pub cpu_seconds: f64,
    /// Bytes of memory in use.
    pub memory_bytes: f64,
    /// When it began, in seconds since the epoch; 0 where that is not known.
    pub started_at: f64,
    /// When this was measured, in milliseconds since the epoch.
    pub at: i64,
}

/// What a kubelet tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The node as a whole.
    pub node: Option<Counters>,
    /// Its containers.
    pub containers: BTreeMap<ContainerKey, Counters>,
}

/// Reads the text format; lines about other things, and damaged ones, are passed over.
#[must_use]
pub fn parse(text: &str) -> Reading {
    let mut reading = Reading::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels, value, at)) = sample(line) else { continue };
        let counters = match name {
            "node_cpu_usage_seconds_total" | "node_memory_working_set_bytes" => reading.node.get_or_insert_default(),
            "container_cpu_usage_seconds_total" | "container_memory_working_set_bytes" | "container_start_time_seconds" => {
                let label = |wanted: &str| labels.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
                let (Some(namespace), Some(pod), Some(container)) = (label("namespace"), label("pod"), label("container")) else {
                    continue;
                };
                reading.containers.entry((namespace, pod, container)).or_default()
            }
            _ => continue,
        };
        if name.ends_with("cpu_usage_seconds_total") {
            (counters.cpu_seconds, counters.at) = (value, at);
        } else if name.ends_with("working_set_bytes") {
            counters.memory_bytes = value;
        } else {
            counters.started_at = value;
        }
    }
    reading
}

type Sample<'a> = (&'a str, Vec<(String, String)>, f64, i64);

/// `name{label="value",...} value milliseconds`.
fn sample(line: &str) -> Option<Sample<'_>> {
    let (name, rest) = line.split_at(line.find(['{', ' '])?);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let mut numbers = rest.split_ascii_whitespace();
    let value: f64 = numbers.next()?.parse().ok().filter(|value: &f64| value.is_finite())?;
    let at = numbers.next().map_or(Some(0), |at| at.parse().ok())?;
    Some((name, labels, value, at))
}

/// Labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let (mut value, mut escaped, mut end) = (String::new(), false, None);
        for (index, character) in quoted.char_indices() {
            match character {
                'n' if escaped => value.push('\n'),
                _ if escaped => value.push(character),
                '\\' => {
                    escaped = true;
                    continue;
                }
                '"' => {
                    end = Some(index + 1);
                    break;
                }
                _ => value.push(character),
            }
            escaped = false;
        }
        labels.push((name.to_owned(), value));
        rest = quoted.get(end?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_kubelet_is_read_and_what_is_damaged_passed_over() {
        let text = concat!(
            "# HELP node_cpu_usage_seconds_total [STABLE] x\n",
            "node_cpu_usage_seconds_total 12.5 1700000000000\n",
            "node_memory_working_set_bytes 4096 1700000000000\n",
            "container_cpu_usage_seconds_total{container=\"a\",namespace=\"n\",pod=\"p\"} 1.5e-1 1700000000001\n",
            "container_memory_working_set_bytes{container=\"a\",namespace=\"n\",pod=\"p\"} 100 1700000000001\n",
            "container_start_time_seconds{container=\"a\",namespace=\"n\",pod=\"p\"} 1.7e9\n",
            "container_cpu_usage_seconds_total{container=\"q\\\"\\\\\",namespace=\"n\",pod=\"p\"} 1 7\n",
            "pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 1.5 1\n",
            "container_cpu_usage_seconds_total{container=\"a\n",
            "container_cpu_usage_seconds_total{container=\"b\"} 1 1\n",
            "node_cpu_usage_seconds_total NaN 1\n",
            "nonsense\n{\n",
        );
        let reading = parse(text);
        let node = Counters { cpu_seconds: 12.5, memory_bytes: 4096.0, started_at: 0.0, at: 1_700_000_000_000 };
        assert_eq!(reading.node, Some(node));
        assert_eq!(reading.containers.len(), 2);
        let key = |name: &str| ("n".to_owned(), "p".to_owned(), name.to_owned());
        let wanted = Counters { cpu_seconds: 0.15, memory_bytes: 100.0, started_at: 1.7e9, at: 1_700_000_000_001 };
        assert_eq!(reading.containers[&key("a")], wanted);
        assert!(reading.containers.contains_key(&key("q\"\\")));
    }
}

//! Services answer on every node that no fault keeps from their endpoints, and the API goes on acknowledging writes.

use std::time::Duration;

use crate::history::{Disturbance, Request, Write};

fn is_excused(request: &Request, disturbances: &[Disturbance]) -> bool {
    disturbances.iter().any(|disturbance| {
        disturbance.nodes.contains(&request.node) && request.began <= disturbance.ended && request.ended >= disturbance.began
    })
}

/// Requests that failed without an excuse.
#[must_use]
pub fn failures(requests: &[Request], disturbances: &[Disturbance]) -> Vec<String> {
    let failed = requests.iter().filter_map(|request| request.failure.as_ref().map(|failure| (request, failure)));
    let inexcusable = failed.filter(|(request, _)| !is_excused(request, disturbances));
    inexcusable
        .map(|(request, failure)| format!("a request from {} at {:.1} s: {failure}", request.node, request.began.as_secs_f64()))
        .collect()
}

/// The longest time without an acknowledged write.
#[must_use]
pub fn longest_silence(writes: &[Write], began: Duration, ended: Duration) -> Duration {
    let mut times: Vec<Duration> = writes.iter().map(|write| write.at).chain([began, ended]).collect();
    times.sort();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn request(node: &str, at: u64, failure: Option<&str>) -> Request {
        Request { node: node.into(), began: second(at), ended: second(at), failure: failure.map(str::to_owned) }
    }

    #[test]
    fn a_failure_is_excused_only_on_its_node_and_in_its_time() {
        let disturbed = [Disturbance { nodes: BTreeSet::from(["a".into()]), began: second(5), ended: second(9) }];
        let fine = [request("a", 7, Some("timed out")), request("b", 7, None), request("a", 20, None)];
        assert_eq!(failures(&fine, &disturbed), [""; 0]);
        let planted = [request("b", 7, Some("refused")), request("a", 10, Some("refused"))];
        let found = failures(&planted, &disturbed);
        assert_eq!(found, ["a request from b at 7.0 s: refused", "a request from a at 10.0 s: refused"]);
    }

    #[test]
    fn silence_is_measured_to_the_end() {
        let write = |at| Write { name: String::new(), version: 0, number: 0, at: second(at) };
        assert_eq!(longest_silence(&[write(1), write(2)], second(0), second(3)), second(1));
        assert_eq!(longest_silence(&[write(1), write(8)], second(0), second(9)), second(7));
        assert_eq!(longest_silence(&[], second(0), second(30)), second(30));
    }
}

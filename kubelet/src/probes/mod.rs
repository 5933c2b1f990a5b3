//! Probes: asked at their period, counted against their thresholds.
//!
//! In: a container's probes. Out: a verdict for each of live, ready and started, and a call when one changes.
//! <https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/>

mod ask;
mod grpc;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container as ContainerSpec, Probe};
use tokio_util::sync::CancellationToken;

pub use self::ask::{Asker, Outcome, get as ask_http};

/// What the probes of one container found; `None` is not known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Startup probe.
    pub started: Option<bool>,
    /// Readiness probe.
    pub ready: Option<bool>,
    /// Liveness probe.
    pub live: Option<bool>,
}

/// One of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Liveness.
    Liveness,
    /// Readiness.
    Readiness,
    /// Startup.
    Startup,
}

impl Kind {
    /// As events name it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
            Self::Startup => "Startup",
        }
    }

    /// The probe of that kind.
    pub fn of(self, container: &ContainerSpec) -> Option<&Probe> {
        match self {
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Startup => container.startup_probe.as_ref(),
        }
    }
}

/// Answers in a row, and what they amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    last: bool,
    times: i32,
}

impl Count {
    /// Takes one answer; a verdict when a threshold is reached.
    fn take(&mut self, success: bool, probe: &Probe) -> Option<bool> {
        self.times = if self.times > 0 && self.last == success { self.times.saturating_add(1) } else { 1 };
        self.last = success;
        let threshold = if success { probe.success_threshold.unwrap_or(1) } else { probe.failure_threshold.unwrap_or(3) };
        (self.times >= threshold).then_some(success)
    }
}

/// What a prober tells its worker.
pub type Tell = Arc<dyn Fn(Kind, Told) + Send + Sync>;

/// News of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A verdict that is new.
    Verdict(bool),
    /// A failure, for an event.
    Failure(String),
}

/// Asks again and again until `cancel`; the other kinds wait until `started`.
pub async fn run(
    kind: Kind,
    probe: Probe,
    asker: Asker,
    mut started: tokio::sync::watch::Receiver<bool>,
    tell: Tell,
    cancel: CancellationToken,
) {
    let seconds = |value: Option<i32>, default: u64| {
        Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
    };
    let period = seconds(probe.period_seconds.filter(|period| *period > 0), 10);
    let timeout = seconds(probe.timeout_seconds.filter(|timeout| *timeout > 0), 1);
    let work = async {
        tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
        if kind != Kind::Startup && started.wait_for(|started| *started).await.is_err() {
            return;
        }
        let mut count = Count::default();
        let mut told = None;
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let outcome = asker.ask(&probe, timeout).await;
            if let Outcome::Failure(message) = &outcome {
                tell(kind, Told::Failure(message.clone()));
            }
            let verdict = count.take(matches!(outcome, Outcome::Success), &probe);
            if verdict.is_some() && verdict != told {
                told = verdict;
                tell(kind, Told::Verdict(verdict == Some(true)));
            }
            // A container that has started is not asked again; one that failed is about to be killed.
            let over = match kind {
                Kind::Startup => verdict.is_some(),
                Kind::Liveness => verdict == Some(false),
                Kind::Readiness => false,
            };
            if over {
                return;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = cancel.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_answers_in_a_row() {
        let probe = Probe { failure_threshold: Some(3), success_threshold: Some(2), ..Probe::default() };
        let mut count = Count::default();
        let answers = [false, false, true, false, false, false, true, true];
        let verdicts: Vec<_> = answers.iter().map(|answer| count.take(*answer, &probe)).collect();
        assert_eq!(verdicts, [None, None, None, None, None, Some(false), None, Some(true)]);
    }
}

//! Clients that do the same thing again and again, and how fast that was.

use std::time::{Duration, Instant};

use tonic::Status;

use crate::target::Link;

/// What one client does.
pub trait Act: Send + 'static {
    /// Asks once, and takes note of the answer.
    fn act(&mut self) -> impl Future<Output = Result<(), Status>> + Send;
    fn link(&mut self) -> &mut Link;
    /// Whether there is anything left to do.
    fn more(&self) -> bool {
        true
    }
}

/// For how long clients ask.
#[derive(Clone, Copy)]
pub struct Plan {
    /// What is answered in this time is not counted.
    pub warm_up: Duration,
    pub counted: Duration,
    /// After each answer.
    pub pause: Duration,
}

/// What came of it.
#[derive(Default)]
pub struct Report {
    /// When something was answered, and how long that took.
    answers: Vec<(Instant, Duration)>,
    elapsed: Duration,
    unanswered: usize,
    /// Why something was not answered.
    refusal: Option<Status>,
    /// Answers in the warm-up.
    before: usize,
}

/// Lets all clients act at the same time; they come back for whoever looks at what they noted.
pub async fn run<A: Act>(plan: Plan, clients: Vec<A>) -> anyhow::Result<(Report, Vec<A>)> {
    let from = Instant::now() + plan.warm_up;
    let running: Vec<_> = clients.into_iter().map(|client| tokio::spawn(one(client, from, plan))).collect();
    let (mut all, mut clients) = (Report::default(), Vec::new());
    for client in running {
        let (report, client) = client.await?;
        all.answers.extend(report.answers);
        all.unanswered += report.unanswered;
        all.refusal = report.refusal.or(all.refusal);
        clients.push(client);
    }
    all.elapsed = from.elapsed();
    all.answers.sort_unstable();
    let before = all.answers.partition_point(|(when, _)| *when < from);
    all.answers.drain(..before);
    all.before = before;
    Ok((all, clients))
}

async fn one<A: Act>(mut client: A, from: Instant, plan: Plan) -> (Report, A) {
    let mut report = Report::default();
    let until = from + plan.counted;
    while Instant::now() < until && client.more() {
        let begin = Instant::now();
        match client.act().await {
            Ok(()) => report.answers.push((Instant::now(), begin.elapsed())),
            Err(refusal) => {
                if begin >= from {
                    report.unanswered += 1;
                    report.refusal = Some(refusal);
                }
                client.link().next();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        if !plan.pause.is_zero() {
            tokio::time::sleep(plan.pause).await;
        }
    }
    (report, client)
}

impl Report {
    /// Of things that happened without a plan.
    pub fn of(mut answers: Vec<(Instant, Duration)>, elapsed: Duration) -> Self {
        answers.sort_unstable();
        Self { answers, elapsed, ..Self::default() }
    }

    /// A figure with refusals in it says nothing, but where it is about refusals.
    pub fn all_answered(self) -> anyhow::Result<Self> {
        match self.refusal {
            Some(refusal) => Err(anyhow::Error::from(refusal).context(format!("{} unanswered", self.unanswered))),
            None => Ok(self),
        }
    }

    pub fn print(&self, what: &str) {
        let mut times: Vec<Duration> = self.answers.iter().map(|(_, time)| *time).collect();
        times.sort_unstable();
        let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or_default();
        let gap = self.answers.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap_or_default();
        let elapsed = self.elapsed.as_secs_f64();
        println!(
            "{} {what} in {elapsed:.1} s: {:.0}/s, p50 {:?}, p99 {:?}, longest gap {gap:?}, unanswered {}, {} before the count",
            times.len(),
            times.len() as f64 / elapsed,
            at(0.5),
            at(0.99),
            self.unanswered,
            self.before,
        );
    }
}

//! The gate that requests pass: levels behind a lock, and those who wait.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use kontiki_api::status::Status;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    config::{Class, Configuration},
    level::{Level, Refusal, Waiting},
    metrics::Metrics,
};
use crate::{auth::UserInfo, limits::REQUEST_DEADLINE, request::RequestInfo};

/// Longest wait for a seat.
const WAIT_MAX: Duration = Duration::from_secs(REQUEST_DEADLINE.as_secs() / 4);

/// The gate.
pub struct Gate {
    state: Mutex<State>,
    metrics: Metrics,
    hasher: ahash::RandomState,
    /// Seats of all levels together.
    seats: u32,
}

#[derive(Default)]
struct State {
    configuration: Configuration,
    levels: BTreeMap<String, Level>,
    waiting: HashMap<u64, oneshot::Sender<()>>,
    running: HashMap<u64, Running>,
    next: u64,
    in_use: u32,
}

struct Running {
    seats: u32,
    queue: Option<usize>,
    since: Instant,
}

/// Held while a request is worked on, or waits.
pub struct Permit {
    gate: Arc<Gate>,
    level: String,
    schema: String,
    id: u64,
}

impl Gate {
    /// A gate with that many seats and the default configuration.
    pub fn new(seats: u32, registry: &mut prometheus_client::registry::Registry) -> Self {
        let gate = Self {
            state: Mutex::default(),
            metrics: Metrics::register(registry),
            hasher: ahash::RandomState::with_seed(7),
            seats,
        };
        gate.configure(Configuration::default());
        gate
    }

    /// Takes over another configuration; who waits goes on waiting.
    pub fn configure(&self, configuration: Configuration) {
        let mut state = self.state.lock();
        let total: u32 = configuration.levels.values().map(|level| level.shares).sum::<u32>().max(1);
        for (name, spec) in &configuration.levels {
            let nominal = (self.seats * spec.shares).div_ceil(total);
            self.metrics.nominal(name, nominal);
            state.levels.entry(name.clone()).or_default().set(spec.clone(), nominal);
        }
        let known =
            |name: &String, level: &Level| configuration.levels.contains_key(name) || level.waiting() > 0 || level.in_use > 0;
        state.levels.retain(|name, level| known(name, level));
        state.configuration = configuration;
        self.serve(&mut state);
    }

    /// Where a request belongs.
    pub fn classify(&self, user: &UserInfo, info: &RequestInfo) -> Class {
        self.state.lock().configuration.classify(user, info)
    }

    /// Waits for seats; 429 where there are none in time.
    pub async fn enter(self: &Arc<Self>, class: &Class, seats: u32) -> Result<Permit, Status> {
        let began = Instant::now();
        let flow = self.hasher.hash_one((&class.schema, &class.flow));
        let (permit, turn) = self.arrive(class, seats, flow).map_err(|refusal| self.refuse(class, refusal))?;
        if let Some(turn) = turn
            && !matches!(tokio::time::timeout(WAIT_MAX, turn).await, Ok(Ok(())))
        {
            return Err(self.refuse(class, Refusal::TimeOut));
        }
        self.metrics.dispatched(class, began.elapsed());
        Ok(permit)
    }

    fn refuse(&self, class: &Class, refusal: Refusal) -> Status {
        self.metrics.refused(class, refusal);
        Status::too_many_requests("Too many requests, please try again later.", 1)
    }

    /// Takes seats, or a place in a queue and the news of one's turn.
    fn arrive(
        self: &Arc<Self>,
        class: &Class,
        seats: u32,
        flow: u64,
    ) -> Result<(Permit, Option<oneshot::Receiver<()>>), Refusal> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let lent = state.lent_to(&class.level);
        let free = self.seats.saturating_sub(state.in_use);
        state.next += 1;
        let id = state.next;
        let permit = || Permit { gate: Arc::clone(self), level: class.level.clone(), schema: class.schema.clone(), id };
        let Some(level) = state.levels.get_mut(&class.level) else { return Ok((permit(), None)) };
        if level.spec.exempt {
            return Ok((permit(), None));
        }
        let seats = seats.clamp(1, level.nominal.max(1));
        if level.waiting() == 0 && level.fits(seats, lent.min(free)) {
            level.in_use += seats;
            state.in_use += seats;
            state.running.insert(id, Running { seats, queue: None, since: Instant::now() });
            return Ok((permit(), None));
        }
        level.enqueue(Waiting { id, seats }, flow)?;
        let (sender, receiver) = oneshot::channel();
        state.waiting.insert(id, sender);
        let permit = permit();
        self.serve(state);
        Ok((permit, Some(receiver)))
    }

    /// Lets everybody in who fits.
    fn serve(&self, state: &mut State) {
        let names: Vec<String> =
            state.levels.iter().filter(|(_, level)| level.waiting() > 0).map(|(name, _)| name.clone()).collect();
        for name in names {
            loop {
                let lent = state.lent_to(&name).min(self.seats.saturating_sub(state.in_use));
                let Some((next, queue)) = state.levels.get_mut(&name).and_then(|level| level.dispatch(lent)) else { break };
                state.in_use += next.seats;
                state.running.insert(next.id, Running { seats: next.seats, queue: Some(queue), since: Instant::now() });
                if let Some(turn) = state.waiting.remove(&next.id) {
                    // Who has left meanwhile gives the seats back by dropping the permit.
                    let _ = turn.send(());
                }
            }
        }
    }

    fn leave(&self, level: &str, id: u64) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.waiting.remove(&id);
        match (state.running.remove(&id), state.levels.get_mut(level)) {
            (Some(running), Some(level)) => {
                state.in_use = state.in_use.saturating_sub(running.seats);
                level.finish(running.seats, running.queue, running.since.elapsed().as_secs_f64());
                self.serve(state);
            }
            (None, Some(level)) => level.leave(id),
            (_, None) => {}
        }
    }
}

impl State {
    fn lent_to(&self, level: &str) -> u32 {
        self.levels.iter().filter(|(name, _)| *name != level).map(|(_, level)| level.lends()).sum()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.leave(&self.level, self.id);
        self.gate.metrics.left(&self.level, &self.schema);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use prometheus_client::registry::Registry;

    use super::*;

    fn class(level: &str, flow: &str) -> Class {
        Class { schema: level.into(), level: level.into(), flow: flow.into(), ..Class::default() }
    }

    #[tokio::test]
    async fn a_level_that_is_full_makes_its_own_requests_wait() {
        let gate = Arc::new(Gate::new(49, &mut Registry::default()));
        // 49 seats over 245 shares: leader-election has 2 and lends none.
        let (one, other) = (gate.enter(&class("leader-election", "a"), 1).await.unwrap(), class("leader-election", "b"));
        let mut held = vec![one];
        while let Ok(Ok(permit)) = tokio::time::timeout(Duration::from_millis(20), gate.enter(&other, 1)).await {
            held.push(permit);
        }
        let taken = held.len();
        assert!((2..49).contains(&taken), "{taken}");
        let _of_another_level = gate.enter(&class("node-high", "n"), 1).await.unwrap();
        let _exempt = gate.enter(&class("exempt", ""), 10).await.unwrap();
        let waits = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter(&other, 1).await.is_ok() }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        held.clear();
        assert!(waits.await.unwrap());
    }

    #[tokio::test]
    async fn what_cannot_wait_is_refused() {
        let gate = Arc::new(Gate::new(49, &mut Registry::default()));
        let mut held = Vec::new();
        let refused = loop {
            match gate.enter(&class("catch-all", "a"), 1).await {
                Ok(permit) => held.push(permit),
                Err(status) => break status,
            }
        };
        assert_eq!((refused.code, refused.details.unwrap().retry_after_seconds), (429, 1));
        held.clear();
        assert_eq!(gate.state.lock().in_use, 0);
        assert!(gate.enter(&class("catch-all", "a"), 1).await.is_ok());
    }
}

//! One priority level: its seats and its queues. Pure; time is an argument.

use std::collections::VecDeque;

use super::config::LevelSpec;

/// Seconds that a request is thought to take when it is dispatched; put right when it has ended.
const GUESS: f64 = 0.003;

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Its queue is full.
    QueueFull,
    /// The level does not queue, and all its seats are taken.
    ConcurrencyLimit,
    /// It has waited too long.
    TimeOut,
}

impl Refusal {
    /// As metrics name it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::TimeOut => "time-out",
        }
    }
}

/// A request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which one.
    pub id: u64,
    /// Seats that it needs.
    pub seats: u32,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Seat-seconds that its requests have used, as far as they count against it.
    used: f64,
    executing: u32,
}

/// The state of a level.
#[derive(Debug, Default)]
pub struct Level {
    /// What it may do.
    pub spec: LevelSpec,
    /// Its own seats.
    pub nominal: u32,
    /// Seats in use.
    pub in_use: u32,
    queues: Vec<Queue>,
    waiting: usize,
    /// Use of the queue that was served last: what an idle queue begins with.
    served: f64,
}

impl Level {
    /// Takes over another specification; who waits goes on waiting.
    pub fn set(&mut self, spec: LevelSpec, nominal: u32) {
        let queues = spec.queuing.map_or(0, |(queues, ..)| queues);
        while self.queues.len() < queues {
            self.queues.push(Queue::default());
        }
        (self.spec, self.nominal) = (spec, nominal);
    }

    /// Seats that others may use now.
    #[must_use]
    pub fn lends(&self) -> u32 {
        (self.nominal * self.spec.lendable / 100).min(self.nominal.saturating_sub(self.in_use))
    }

    /// Whether that many seats can be taken, when others lend `lent`.
    #[must_use]
    pub fn fits(&self, seats: u32, lent: u32) -> bool {
        let bound = self.spec.borrowing.map_or(u32::MAX, |percent| self.nominal * percent / 100);
        self.in_use + seats <= self.nominal + lent.min(bound)
    }

    /// Number of requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Lets a request wait, in the least loaded queue of its flow's hand; the queue.
    pub fn enqueue(&mut self, request: Waiting, flow: u64) -> Result<usize, Refusal> {
        let Some((queues, hand, length)) = self.spec.queuing else { return Err(Refusal::ConcurrencyLimit) };
        let load = |queue: &Queue| queue.waiting.iter().map(|waiting| waiting.seats).sum::<u32>() + queue.executing;
        let chosen = deal(flow, queues, hand).into_iter().min_by_key(|index| load(&self.queues[*index]));
        let Some(chosen) = chosen else { return Err(Refusal::ConcurrencyLimit) };
        let queue = &mut self.queues[chosen];
        if queue.waiting.len() >= length {
            return Err(Refusal::QueueFull);
        }
        if queue.waiting.is_empty() && queue.executing == 0 {
            // Having asked for nothing saves up nothing.
            queue.used = queue.used.max(self.served);
        }
        queue.waiting.push_back(request);
        self.waiting += 1;
        Ok(chosen)
    }

    /// The next request that can run, and its queue; its seats are taken.
    pub fn dispatch(&mut self, lent: u32) -> Option<(Waiting, usize)> {
        let candidates = self.queues.iter().enumerate().filter(|(_, queue)| !queue.waiting.is_empty());
        let (index, _) = candidates.min_by(|(_, one), (_, other)| one.used.total_cmp(&other.used))?;
        let next = *self.queues[index].waiting.front()?;
        if !self.fits(next.seats, lent) {
            return None;
        }
        let queue = &mut self.queues[index];
        queue.waiting.pop_front();
        self.served = queue.used;
        queue.used += f64::from(next.seats) * GUESS;
        queue.executing += next.seats;
        self.waiting -= 1;
        self.in_use += next.seats;
        Some((next, index))
    }

    /// Gives seats back after that many seconds.
    pub fn finish(&mut self, seats: u32, queue: Option<usize>, took: f64) {
        self.in_use = self.in_use.saturating_sub(seats);
        if let Some(queue) = queue.and_then(|index| self.queues.get_mut(index)) {
            queue.used += f64::from(seats) * (took - GUESS);
            queue.executing = queue.executing.saturating_sub(seats);
        }
    }

    /// Takes a request out that does not want to wait any longer.
    pub fn leave(&mut self, id: u64) {
        for queue in &mut self.queues {
            let before = queue.waiting.len();
            queue.waiting.retain(|waiting| waiting.id != id);
            self.waiting -= before - queue.waiting.len();
        }
    }
}

/// A flow's hand: distinct queues, dealt by its hash like cards.
fn deal(flow: u64, queues: usize, hand: usize) -> Vec<usize> {
    let mut entropy = flow;
    let mut dealt: Vec<usize> = Vec::with_capacity(hand);
    for index in 0..hand.min(queues) {
        let left = (queues - index) as u64;
        let mut card = usize::try_from(entropy % left).unwrap_or(0);
        entropy /= left;
        let mut sorted = dealt.clone();
        sorted.sort_unstable();
        for taken in sorted {
            if card >= taken {
                card += 1;
            }
        }
        dealt.push(card);
    }
    dealt
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn level(nominal: u32, queues: usize) -> Level {
        let mut level = Level::default();
        level.set(LevelSpec { queuing: Some((queues, 2.min(queues), 3)), ..LevelSpec::default() }, nominal);
        level
    }

    proptest! {
        #[test]
        fn a_hand_has_distinct_queues(flow: u64, queues in 1_usize..200, hand in 1_usize..12) {
            let mut dealt = deal(flow, queues, hand);
            prop_assert!(dealt.iter().all(|card| *card < queues));
            dealt.sort_unstable();
            dealt.dedup();
            prop_assert_eq!(dealt.len(), hand.min(queues));
        }

        #[test]
        fn seats_are_never_oversold(requests in prop::collection::vec((1_u32..4, any::<u64>()), 1..60)) {
            let mut level = level(5, 8);
            let mut running: Vec<(u32, usize)> = Vec::new();
            for (id, (seats, flow)) in requests.into_iter().enumerate() {
                let _ = level.enqueue(Waiting { id: id as u64, seats }, flow);
                while let Some((waiting, queue)) = level.dispatch(0) {
                    running.push((waiting.seats, queue));
                }
                prop_assert!(level.in_use <= 5);
                prop_assert_eq!(level.in_use, running.iter().map(|(seats, _)| *seats).sum::<u32>());
                if level.in_use > 3 && let Some((seats, queue)) = running.pop() {
                    level.finish(seats, Some(queue), 0.01);
                }
            }
        }
    }

    #[test]
    fn a_greedy_flow_waits_for_a_modest_one() {
        // One queue for each flow.
        let mut level = Level::default();
        level.set(LevelSpec { queuing: Some((64, 1, 3)), ..LevelSpec::default() }, 1);
        let (greedy, modest) = (1, 2);
        for id in 0..3 {
            level.enqueue(Waiting { id, seats: 1 }, greedy).unwrap();
        }
        let (first, queue) = level.dispatch(0).unwrap();
        level.enqueue(Waiting { id: 9, seats: 1 }, modest).unwrap();
        assert!(level.dispatch(0).is_none());
        level.finish(first.seats, Some(queue), 1.0);
        assert_eq!(level.dispatch(0).unwrap().0.id, 9);
    }

    #[test]
    fn a_full_queue_refuses_and_seats_are_borrowed_while_they_are_lent() {
        let mut level = level(1, 1);
        for id in 0..3 {
            level.enqueue(Waiting { id, seats: 1 }, 0).unwrap();
        }
        assert_eq!(level.enqueue(Waiting { id: 3, seats: 1 }, 0), Err(Refusal::QueueFull));
        assert!(level.dispatch(0).is_some());
        assert!(level.dispatch(0).is_none());
        assert!(level.dispatch(1).is_some());
        level.leave(2);
        assert_eq!(level.waiting(), 0);
    }
}

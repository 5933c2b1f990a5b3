//! Is there one order of all requests, each somewhere between its question and its answer, in which
//! a single copy of the store gives exactly these answers? Wing and Gong's search, with Lowe's memory
//! of what was tried. Every answer carries the store's revision, so that there is rarely more than
//! one way to go on; and a revision that nobody wrote, or that is skipped, fits into no order.

use std::collections::{BTreeSet, HashSet};

use super::model::Model;
use crate::history::{Answer, Operation, Step};

/// Searches the order; an error says where the search got stuck.
pub fn check(history: &[Operation]) -> Result<(), String> {
    let mut search = Search::new(history);
    let mut path: Vec<Point> = Vec::new();
    let mut now = Point::default();
    let mut candidates = search.candidates(&now);
    let mut stuck = now.clone();
    let mut rest: Vec<Vec<Next>> = Vec::new();
    while now.first < search.answered.len() {
        let Some(next) = candidates.pop() else {
            let Some(before) = path.pop() else {
                return Err(search.explain(&stuck));
            };
            now = before;
            candidates = rest.pop().unwrap_or_default();
            continue;
        };
        let after = search.step(&now, next);
        if search.seen.insert(after.clone()) {
            path.push(std::mem::replace(&mut now, after));
            rest.push(std::mem::take(&mut candidates));
            candidates = search.candidates(&now);
            if now.first > stuck.first {
                stuck = now.clone();
            }
        }
    }
    Ok(())
}

/// A place in the search: what was put in order so far, and what the store is then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Point {
    /// All answered requests before this one are in order,
    first: usize,
    /// and these after it,
    early: BTreeSet<usize>,
    /// and these that were never answered.
    unanswered: BTreeSet<usize>,
    model: Model,
}

/// A request that may come next.
#[derive(Clone, Copy, Debug)]
enum Next {
    Answered(usize),
    Unanswered(usize),
}

struct Search<'a> {
    answered: Vec<(&'a Operation, u64, &'a Answer)>,
    /// The lowest revision in any answer from a place on.
    lowest: Vec<i64>,
    unanswered: Vec<&'a Operation>,
    seen: HashSet<Point>,
}

impl<'a> Search<'a> {
    fn new(history: &'a [Operation]) -> Self {
        let mut answered = Vec::new();
        let mut unanswered = Vec::new();
        for operation in history {
            match &operation.end {
                Some((end, answer)) => answered.push((operation, *end, answer)),
                // A read that nobody heard the answer of tells nothing.
                None if operation.call.success.iter().chain(&operation.call.failure).any(writes) => unanswered.push(operation),
                None => {}
            }
        }
        answered.sort_unstable_by_key(|(operation, ..)| operation.begin);
        let mut lowest: Vec<i64> = vec![i64::MAX; answered.len() + 1];
        for (place, (.., answer)) in answered.iter().enumerate().rev() {
            lowest[place] = lowest[place + 1].min(answer.revision);
        }
        Self { answered, lowest, unanswered, seen: HashSet::new() }
    }

    /// What may come next: begun before anything that is left was answered, and with the answer that was given.
    ///
    /// A request whose answer fits comes now and has no alternative: an answer names the revision, so that one which changes
    /// nothing fits nowhere else, and no other write may take the revision of one that changes something. Only where none
    /// fits, one of those without an answer was carried out, and only one that changes something can matter.
    fn candidates(&self, point: &Point) -> Vec<Next> {
        if self.is_too_far(point) {
            return vec![];
        }
        let mut first_end = u64::MAX;
        let mut fitting = Vec::new();
        for (number, (operation, end, answer)) in self.answered.iter().enumerate().skip(point.first) {
            if operation.begin > first_end {
                break;
            }
            if !point.early.contains(&number) {
                first_end = first_end.min(*end);
                let mut after = point.model.clone();
                if after.run(&operation.call) == **answer {
                    fitting.push((after.revision, number, operation.begin));
                }
            }
        }
        // What changes nothing keeps the revision, and so is the least.
        if let Some((_, number, _)) = fitting.iter().filter(|(.., begin)| *begin < first_end).min() {
            return vec![Next::Answered(*number)];
        }
        let open = self
            .unanswered
            .iter()
            .enumerate()
            .filter(|(number, operation)| operation.begin < first_end && !point.unanswered.contains(number));
        open.filter(|(_, operation)| changes(&point.model, operation)).map(|(number, _)| Next::Unanswered(number)).collect()
    }

    /// Whether something is left whose answer names a revision that is over. Revisions only grow.
    fn is_too_far(&self, point: &Point) -> bool {
        let behind = point.early.last().map_or(point.first, |last| last + 1);
        let mut between = (point.first..behind).filter(|number| !point.early.contains(number));
        self.lowest[behind] < point.model.revision
            || between.any(|number| self.answered[number].2.revision < point.model.revision)
    }

    fn step(&self, point: &Point, next: Next) -> Point {
        let mut after = point.clone();
        match next {
            Next::Answered(number) => {
                after.model.run(&self.answered[number].0.call);
                after.early.insert(number);
                while after.early.remove(&after.first) {
                    after.first += 1;
                }
            }
            Next::Unanswered(number) => {
                after.model.run(&self.unanswered[number].call);
                after.unanswered.insert(number);
            }
        }
        after
    }

    fn explain(&self, stuck: &Point) -> String {
        let left = self.answered.iter().enumerate().skip(stuck.first).filter(|(number, _)| !stuck.early.contains(number));
        let next: Vec<String> = left.take(4).map(|(_, (operation, ..))| format!("  {operation:?}\n")).collect();
        format!("no order explains the answers: after {:?} none of these fits:\n{}", stuck.model, next.concat())
    }
}

fn changes(model: &Model, operation: &Operation) -> bool {
    let mut after = model.clone();
    after.run(&operation.call);
    after.revision != model.revision
}

fn writes(step: &Step) -> bool {
    !matches!(step, Step::Get(_))
}

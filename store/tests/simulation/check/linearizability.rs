//! Is there one order of all requests, each somewhere between its question and its answer, in which
//! a single copy of the store gives exactly these answers? Wing and Gong's search, with Lowe's memory
//! of what was tried. Every answer carries the store's revision, so that there is rarely more than
//! one way to go on; and a revision that nobody wrote, or that is skipped, fits into no order.

use std::collections::HashSet;

use super::model::Model;
use crate::history::Operation;

/// Searches the order; an error says where the search got stuck.
pub fn check(history: &[Operation]) -> Result<Model, String> {
    let mut operations: Vec<&Operation> = history.iter().filter(|operation| is_relevant(operation)).collect();
    operations.sort_unstable_by_key(|operation| operation.begin);
    let mut search =
        Search { done: vec![false; operations.len()], seen: HashSet::new(), deepest: 0, stuck: String::new(), operations };
    let mut path: Vec<(usize, Model, Vec<usize>)> = Vec::new();
    let mut model = Model::default();
    let mut candidates = search.candidates(&model);
    loop {
        if search.is_complete() {
            return Ok(model);
        }
        match candidates.pop() {
            Some(next) => {
                let mut after = model.clone();
                after.run(&search.operations[next].call);
                search.done[next] = true;
                if search.seen.insert((search.done.clone(), after.clone())) {
                    path.push((next, std::mem::replace(&mut model, after), candidates));
                    candidates = search.candidates(&model);
                    search.note(path.len(), &model);
                } else {
                    search.done[next] = false;
                }
            }
            None => {
                let Some((last, before, rest)) = path.pop() else {
                    return Err(search.stuck);
                };
                search.done[last] = false;
                model = before;
                candidates = rest;
            }
        }
    }
}

/// A read that nobody heard the answer of tells nothing.
fn is_relevant(operation: &Operation) -> bool {
    let writes = |step: &crate::history::Step| !matches!(step, crate::history::Step::Get(_));
    operation.end.is_some() || operation.call.success.iter().chain(&operation.call.failure).any(writes)
}

struct Search<'a> {
    operations: Vec<&'a Operation>,
    done: Vec<bool>,
    seen: HashSet<(Vec<bool>, Model)>,
    deepest: usize,
    stuck: String,
}

impl Search<'_> {
    fn is_complete(&self) -> bool {
        self.operations.iter().zip(&self.done).all(|(operation, done)| *done || operation.end.is_none())
    }

    /// What may come next: begun before anything that is left was answered, and with the answer that
    /// was given. Those that come last are tried first: answered ones before unanswered ones.
    fn candidates(&self, model: &Model) -> Vec<usize> {
        let left = || self.operations.iter().enumerate().filter(|(number, _)| !self.done[*number]);
        let first_end = left().filter_map(|(_, operation)| operation.end.as_ref().map(|(end, _)| *end)).min();
        let mut unanswered = Vec::new();
        let mut answered = Vec::new();
        for (number, operation) in left().take_while(|(_, operation)| first_end.is_none_or(|end| operation.begin < end)) {
            match &operation.end {
                None => unanswered.push(number),
                Some((_, answer)) if model.clone().run(&operation.call) == *answer => answered.push(number),
                Some(_) => {}
            }
        }
        unanswered.extend(answered);
        unanswered
    }

    fn note(&mut self, depth: usize, model: &Model) {
        if depth <= self.deepest {
            return;
        }
        self.deepest = depth;
        let left = self.operations.iter().zip(&self.done).filter(|(operation, done)| !**done && operation.end.is_some());
        let next: Vec<String> = left.take(4).map(|(operation, _)| format!("  {operation:?}\n")).collect();
        self.stuck = format!("no order explains the answers: after {model:?} none of these fits:\n{}", next.concat());
    }
}

//! Answers of other resolvers, for as long as they say and no longer than half a minute. Time is an argument.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use hickory_proto::op::Message;

/// Answers that are remembered; when there are more, those go that are over, and then all.
const ANSWERS_MAX: usize = 2048;
/// How long an answer is remembered at most, and one that says that there is nothing.
const LIFE_MAX: Duration = Duration::from_secs(30);
const NOTHING_LIFE: Duration = Duration::from_secs(5);

/// What was asked: name in lower case, and the number of the type.
pub type Question = (String, u16);

/// The cache.
#[derive(Default)]
pub struct Cache {
    answers: HashMap<Question, (Message, Instant, Instant)>,
}

impl Cache {
    /// What is remembered, with the time that it has left.
    pub fn get(&self, question: &Question, now: Instant) -> Option<Message> {
        let (message, since, until) = self.answers.get(question)?;
        if now >= *until {
            return None;
        }
        let age = u32::try_from(now.saturating_duration_since(*since).as_secs()).unwrap_or(u32::MAX);
        let mut message = message.clone();
        for record in message.answers.iter_mut().chain(&mut message.authorities) {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(message)
    }

    /// Remembers an answer.
    pub fn put(&mut self, question: Question, message: &Message, now: Instant) {
        let shortest = message.answers.iter().map(|record| record.ttl).min();
        let life = shortest.map_or(NOTHING_LIFE, |seconds| Duration::from_secs(seconds.into()).min(LIFE_MAX));
        if life.is_zero() || message.metadata.truncation {
            return;
        }
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.retain(|_, (_, _, until)| *until > now);
        }
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.clear();
        }
        self.answers.insert(question, (message.clone(), now, now + life));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hickory_proto::rr::{Name, RData, Record, rdata::A};

    use super::*;

    #[test]
    fn an_answer_lives_as_long_as_it_says() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let question = ("example.org".to_owned(), 1);
        let mut message = Message::query();
        let name = Name::from_ascii("example.org.").unwrap();
        message.add_answer(Record::from_rdata(name, 10, RData::A(A::new(192, 0, 2, 1))));
        cache.put(question.clone(), &message, now);
        assert_eq!(cache.get(&question, now + Duration::from_secs(4)).unwrap().answers[0].ttl, 6);
        assert!(cache.get(&question, now + Duration::from_secs(10)).is_none());
        cache.put(question.clone(), &Message::query(), now);
        assert!(cache.get(&question, now + Duration::from_secs(4)).is_some());
        assert!(cache.get(&question, now + Duration::from_secs(5)).is_none());
    }
}

//! A member more and a member less, whatever else happens: an operator who asks again until it is done.

use std::sync::Arc;

use futures::FutureExt;
use kontiki_proto::kontiki::store::v1::change_membership_request::Change;
use kontiki_store::Handle;
use parking_lot::Mutex;

use crate::entropy::mix;
use crate::member::Member;
use crate::network::host;
use crate::trace::Trace;

/// The operator asks somebody else if there is no answer after this time.
const PATIENCE_MS: u64 = 1500;
/// Between two questions.
const PAUSE_MS: u64 = 100;

/// One change of the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A member joins.
    Add(usize),
    /// A member leaves for good.
    Remove(usize),
}

impl Wish {
    fn member(self) -> usize {
        match self {
            Self::Add(member) | Self::Remove(member) => member,
        }
    }
}

/// What the operator wants, one after the other, and how far it is.
#[derive(Default)]
pub struct Operator {
    /// What is left to do.
    pub wishes: Vec<Wish>,
    /// What the member that was asked said: whether it is done.
    said: Arc<Mutex<Option<bool>>>,
    asked_ms: Option<u64>,
}

impl Operator {
    /// Goes on; returns what has been done just now.
    pub fn step(&mut self, seed: u64, members: &[Member], trace: &Arc<Trace>) -> Option<Wish> {
        let wish = *self.wishes.first()?;
        if matches!(wish, Wish::Remove(_)) && members.last().is_some_and(|joined| joined.handle().is_none()) {
            // Who joins counts the members that it was told of, and must be there first.
            return None;
        }
        let now = trace.now_ms();
        let said = self.said.lock().take();
        if said == Some(true) {
            trace.note(format_args!("done: {wish:?}"));
            self.wishes.remove(0);
            self.asked_ms = None;
            return Some(wish);
        }
        let pause = if said == Some(false) { PAUSE_MS } else { PATIENCE_MS };
        match self.asked_ms {
            Some(asked) if now < asked + PATIENCE_MS && said.is_none() => return None,
            Some(asked) if now < asked + pause => {
                *self.said.lock() = said;
                return None;
            }
            _ => {}
        }
        let able = members.iter().filter(|member| member.number != wish.member() && member.handle().is_some());
        let able: Vec<&Member> = able.collect();
        let chosen = usize::try_from(mix(seed, now)).unwrap_or(0).checked_rem(able.len())?;
        let (member, handle) = (able[chosen], able[chosen].handle()?);
        self.asked_ms = Some(now);
        self.said = Arc::default();
        trace.note(format_args!("member {} is asked: {wish:?}", member.number));
        let (said, trace) = (self.said.clone(), trace.clone());
        member.spawn(async move {
            let done = ask(&handle, wish, now, &trace).await;
            *said.lock() = Some(done);
        });
        None
    }
}

/// Asks one member; whether the wish is true.
async fn ask(handle: &Handle, wish: Wish, now_ms: u64, trace: &Trace) -> bool {
    let url = format!("http://{}:1", host(wish.member()));
    let found = handle.members().into_iter().find(|member| member.peer_ur_ls.contains(&url));
    let result = match (wish, found) {
        (Wish::Add(_), Some(_)) | (Wish::Remove(_), None) => return true,
        (Wish::Add(_), None) => handle.member_add(vec![url], false, now_ms.into()).await.map(drop),
        (Wish::Remove(_), Some(member)) => handle.member_change(Change::Remove(member.id)).await,
    };
    if let Err(error) = &result {
        trace.note(format_args!("not done: {wish:?}: {error}"));
    }
    result.is_ok()
}

/// Whether a member knows that it was removed.
pub fn knows_of_removal(member: &Member) -> bool {
    member.handle().is_some_and(|handle| handle.removed().now_or_never().is_some())
}

//! From a question to the records of the answer: the cluster's own names, names of elsewhere, and the way from one to
//! the other that an `ExternalName` is.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{
        Name, RData, Record as WireRecord, RecordType,
        rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT},
    },
};
use parking_lot::{Mutex, RwLock};

use super::{
    answer::{Answer, Kind, Record, Zone},
    cache::Cache,
    forward, metrics,
};
use crate::index::Index;

/// Seconds that an answer may be remembered: endpoints change fast.
const TTL: u32 = 5;
/// Names that are followed from one to the next.
const CHASE_MAX: usize = 8;

/// What goes into a response.
#[derive(Debug)]
pub struct Reply {
    /// Code.
    pub code: ResponseCode,
    /// Whether this server has the last word on the name.
    pub authoritative: bool,
    /// Answers.
    pub answers: Vec<WireRecord>,
    /// Who has the last word.
    pub authorities: Vec<WireRecord>,
    /// What may be asked next.
    pub additionals: Vec<WireRecord>,
}

/// Resolves names.
pub struct Resolver {
    /// Services and endpoints.
    pub index: Arc<RwLock<Index>>,
    /// Domain of the cluster's names, in lower case.
    pub domain: String,
    /// Address of the server itself.
    pub server: IpAddr,
    /// Resolvers for other names.
    pub upstream: Vec<SocketAddr>,
    /// Their answers.
    pub cache: Mutex<Cache>,
}

fn kind_of(kind: RecordType) -> Kind {
    match kind {
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        RecordType::SRV => Kind::Srv,
        RecordType::PTR => Kind::Ptr,
        RecordType::TXT => Kind::Txt,
        RecordType::SOA => Kind::Soa,
        RecordType::NS => Kind::Ns,
        _ => Kind::Other,
    }
}

fn plain(name: &Name) -> String {
    name.to_ascii().to_lowercase().trim_end_matches('.').to_owned()
}

fn whole(text: &str) -> Option<Name> {
    Name::from_ascii(format!("{text}.")).ok()
}

impl Resolver {
    fn ask(&self, name: &str, kind: Kind) -> (Answer, Vec<(String, IpAddr)>) {
        let index = self.index.read();
        let zone = Zone { domain: &self.domain, server: self.server, index: &index };
        let answer = zone.answer(name, kind);
        let beside = if let Answer::Found(records) = &answer { zone.beside(records) } else { Vec::new() };
        (answer, beside)
    }

    /// Whether a name is of this cluster.
    pub fn is_own(&self, name: &Name) -> bool {
        !matches!(self.ask(&plain(name), Kind::Other).0, Answer::Elsewhere)
    }

    /// Answers. `query` is the question as it came, for those who are asked instead.
    pub async fn reply(&self, asked: &Name, kind: RecordType, query: &[u8]) -> Reply {
        let (answer, beside) = self.ask(&plain(asked), kind_of(kind));
        let mut reply =
            Reply { code: ResponseCode::NoError, authoritative: true, answers: vec![], authorities: vec![], additionals: vec![] };
        match answer {
            Answer::Elsewhere => return self.elsewhere(asked, kind, query).await,
            Answer::NoSuchName => {
                reply.code = ResponseCode::NXDomain;
                reply.authorities.extend(self.authority());
            }
            Answer::Found(records) => {
                for record in &records {
                    reply.answers.extend(self.wire(asked, record));
                }
                if let Some(Record::Cname(target)) = records.first().filter(|_| kind != RecordType::CNAME) {
                    let followed = self.chase(target.clone(), kind).await;
                    reply.answers.extend(followed);
                }
                if reply.answers.is_empty() {
                    reply.authorities.extend(self.authority());
                }
                for (name, address) in beside {
                    reply.additionals.extend(whole(&name).and_then(|name| self.wire(&name, &Record::Address(address))));
                }
            }
        }
        reply
    }

    /// Follows a name that stands for another one, here or elsewhere.
    async fn chase(&self, mut target: String, kind: RecordType) -> Vec<WireRecord> {
        let mut found = Vec::new();
        for _ in 0..CHASE_MAX {
            let Some(name) = whole(&target) else { return found };
            match self.ask(&target, kind_of(kind)).0 {
                Answer::NoSuchName => return found,
                Answer::Found(records) => {
                    found.extend(records.iter().filter_map(|record| self.wire(&name, record)));
                    match records.into_iter().next() {
                        Some(Record::Cname(next)) => target = next,
                        _ => return found,
                    }
                }
                Answer::Elsewhere => {
                    let mut message = Message::query();
                    message.metadata.id = rand::random();
                    message.metadata.recursion_desired = true;
                    message.add_query(Query::query(name.clone(), kind));
                    let Ok(query) = message.to_vec() else { return found };
                    found.extend(self.elsewhere(&name, kind, &query).await.answers);
                    return found;
                }
            }
        }
        found
    }

    async fn elsewhere(&self, asked: &Name, kind: RecordType, query: &[u8]) -> Reply {
        let question = (plain(asked), u16::from(kind));
        let known = self.cache.lock().get(&question, Instant::now());
        metrics::count_cache(known.is_some());
        let message = match known {
            Some(message) => Ok(message),
            None => self.forward(query).await,
        };
        match message {
            Ok(message) => {
                let reply = Reply {
                    code: message.metadata.response_code,
                    authoritative: false,
                    answers: message.answers.clone(),
                    authorities: message.authorities.clone(),
                    additionals: Vec::new(),
                };
                if matches!(reply.code, ResponseCode::NoError | ResponseCode::NXDomain) {
                    self.cache.lock().put(question, &message, Instant::now());
                }
                reply
            }
            Err(error) => {
                tracing::debug!(error, "no resolver answers");
                let code = ResponseCode::ServFail;
                Reply { code, authoritative: false, answers: vec![], authorities: vec![], additionals: vec![] }
            }
        }
    }

    async fn forward(&self, query: &[u8]) -> Result<Message, String> {
        metrics::count_forward();
        let answer = forward::forward(&self.upstream, query).await.map_err(|error| error.to_string())?;
        Message::from_vec(&answer).map_err(|error| error.to_string())
    }

    /// Says how long a negative answer may be remembered.
    fn authority(&self) -> Option<WireRecord> {
        self.wire(&whole(&self.domain)?, &Record::Soa)
    }

    fn wire(&self, name: &Name, record: &Record) -> Option<WireRecord> {
        let data = match record {
            Record::Address(IpAddr::V4(address)) => RData::A(A(*address)),
            Record::Address(IpAddr::V6(address)) => RData::AAAA(AAAA(*address)),
            Record::Cname(target) => RData::CNAME(CNAME(whole(target)?)),
            Record::Srv(port, target) => RData::SRV(SRV::new(0, 100, *port, whole(target)?)),
            Record::Ptr(target) => RData::PTR(PTR(whole(target)?)),
            Record::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
            Record::Ns(target) => RData::NS(NS(whole(target)?)),
            Record::Soa => {
                let (server, mail) = (whole(&format!("ns.dns.{}", self.domain))?, whole(&format!("hostmaster.{}", self.domain))?);
                RData::SOA(SOA::new(server, mail, 1, 7200, 1800, 86_400, TTL))
            }
        };
        Some(WireRecord::from_rdata(name.clone(), TTL, data))
    }
}

#[cfg(test)]
mod tests;

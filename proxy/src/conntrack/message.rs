//! Messages to and from the kernel's flow table, as ctnetlink has them. Pure.
//!
//! A message is a header, a family, and attributes: length, type, value, padded to four bytes; some hold attributes
//! themselves. <https://docs.kernel.org/userspace-api/netlink/intro.html>

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::endpoints::Family;

/// Bytes of a message's header, and of the family after it.
const HEADER: usize = 16;
const FAMILY: usize = 4;
/// Kinds of messages of the kernel's own.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The flow table's messages.
const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
/// Flags of requests.
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
/// Attributes of a flow, of a tuple, of its addresses and of its protocol.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ADDRESSES: u16 = 1;
const PROTOCOL: u16 = 2;
const V4_SOURCE: u16 = 1;
const V4_DESTINATION: u16 = 2;
const V6_SOURCE: u16 = 3;
const V6_DESTINATION: u16 = 4;
const NUMBER: u16 = 1;
const DESTINATION_PORT: u16 = 3;
/// Says that a value holds attributes, and that its bytes are in the network's order; no part of the type.
const NESTED: u16 = 0x8000;
const TYPE: u16 = 0x3fff;

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Number of the protocol.
    pub protocol: u8,
    /// Where it was sent.
    pub destination: (IpAddr, u16),
    /// Who answers.
    pub answered_by: IpAddr,
    /// The original direction as the kernel told it.
    pub tuple: Vec<u8>,
}

fn family_byte(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

fn message(kind: u16, flags: u16, family: Family, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + FAMILY + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER + FAMILY + attributes.len());
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[family_byte(family), 0, 0, 0]);
    bytes.extend_from_slice(attributes);
    bytes
}

/// Asks for all flows.
pub fn dump(family: Family) -> Vec<u8> {
    message(GET, DUMP, family, &[])
}

/// Forgets a flow.
pub fn delete(family: Family, flow: &Flow) -> Vec<u8> {
    let length = u16::try_from(4 + flow.tuple.len()).unwrap_or(u16::MAX);
    let mut attribute = Vec::with_capacity(4 + flow.tuple.len());
    attribute.extend_from_slice(&length.to_ne_bytes());
    attribute.extend_from_slice(&(ORIGINAL | NESTED).to_ne_bytes());
    attribute.extend_from_slice(&flow.tuple);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    message(DELETE, ACKNOWLEDGE, family, &attribute)
}

/// What the kernel says.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// A flow.
    Flow(Flow),
    /// Nothing that is of interest here.
    Other,
    /// All is said; with the number of an error, or 0.
    End(i32),
}

fn two(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?))
}

fn four(bytes: &[u8]) -> Option<[u8; 4]> {
    bytes.get(..4)?.try_into().ok()
}

/// The messages in what was received.
pub fn parse(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some(length) = four(bytes).map(|length| u32::from_ne_bytes(length) as usize) {
        if length < HEADER || length > bytes.len() {
            break;
        }
        let (whole, rest) = bytes.split_at(length);
        bytes = rest.get(length.next_multiple_of(4) - length..).unwrap_or(&[]);
        answers.push(answer(whole));
    }
    answers
}

fn answer(message: &[u8]) -> Answer {
    match two(&message[4..]) {
        Some(DONE) => Answer::End(0),
        Some(ERROR) => Answer::End(four(&message[HEADER..]).map_or(0, i32::from_ne_bytes)),
        _ => message.get(HEADER + FAMILY..).and_then(flow).map_or(Answer::Other, Answer::Flow),
    }
}

/// Types and values of attributes.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (usize::from(two(bytes)?), two(bytes.get(2..)?)?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind & TYPE, value))
    })
}

fn inside(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn address(addresses: &[u8], v4: u16, v6: u16) -> Option<IpAddr> {
    if let Some(value) = inside(addresses, v4) {
        return Some(Ipv4Addr::from(four(value)?).into());
    }
    let value: [u8; 16] = inside(addresses, v6)?.get(..16)?.try_into().ok()?;
    Some(Ipv6Addr::from(value).into())
}

fn flow(bytes: &[u8]) -> Option<Flow> {
    let (original, reply) = (inside(bytes, ORIGINAL)?, inside(bytes, REPLY)?);
    let protocol = inside(original, PROTOCOL)?;
    let port = inside(protocol, DESTINATION_PORT)?;
    Some(Flow {
        protocol: *inside(protocol, NUMBER)?.first()?,
        destination: (
            address(inside(original, ADDRESSES)?, V4_DESTINATION, V6_DESTINATION)?,
            u16::from_be_bytes(port.get(..2)?.try_into().ok()?),
        ),
        answered_by: address(inside(reply, ADDRESSES)?, V4_SOURCE, V6_SOURCE)?,
        tuple: original.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn tuple(source: [u8; 4], destination: [u8; 4], port: u16) -> Vec<u8> {
        let addresses = [attribute(V4_SOURCE, &source), attribute(V4_DESTINATION, &destination)].concat();
        let protocol = [attribute(NUMBER, &[17]), attribute(DESTINATION_PORT, &port.to_be_bytes())].concat();
        [attribute(ADDRESSES | NESTED, &addresses), attribute(PROTOCOL | NESTED, &protocol)].concat()
    }

    #[test]
    fn a_flow_is_read_and_named_again() {
        let original = tuple([10, 244, 0, 9], [10, 96, 0, 7], 53);
        let reply = tuple([10, 244, 0, 2], [10, 244, 0, 9], 4000);
        let body = [attribute(ORIGINAL | NESTED, &original), attribute(REPLY | NESTED, &reply)].concat();
        let mut bytes = message(SUBSYSTEM, 0, Family::V4, &body);
        bytes.extend(message(DONE, 0, Family::V4, &[]));
        let answers = parse(&bytes);
        let [Answer::Flow(flow), Answer::End(0)] = answers.as_slice() else { panic!("{answers:?}") };
        assert_eq!(flow.destination, ("10.96.0.7".parse().unwrap(), 53));
        assert_eq!(flow.answered_by, "10.244.0.2".parse::<IpAddr>().unwrap());
        let asked = delete(Family::V4, flow);
        assert_eq!(inside(&asked[HEADER + FAMILY..], ORIGINAL).unwrap(), original);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes);
        }
    }
}

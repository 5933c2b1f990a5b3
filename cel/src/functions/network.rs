//! Addresses, networks and URLs.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::Result;
use crate::{
    error::EvalError,
    value::{Key, Value},
};

/// Calls a function of this library; `None` where it has none.
pub fn call(function: &str, target: Option<&Value>, arguments: &[Value]) -> Option<Result> {
    match (target, arguments) {
        (None, [Value::String(text)]) => Some(match function {
            "ip" => parse_ip(text).map(Value::Ip).ok_or_else(|| invalid("IP address", text)),
            "isIP" => Ok(Value::Bool(parse_ip(text).is_some())),
            "ip.isCanonical" => parse_ip(text)
                .map(|address| Value::Bool(address.to_string() == text.as_ref()))
                .ok_or_else(|| invalid("IP address", text)),
            "cidr" => parse_cidr(text).ok_or_else(|| invalid("CIDR address", text)),
            "isCIDR" => Ok(Value::Bool(parse_cidr(text).is_some())),
            "url" => parse_url(text).map(|url| Value::Url(Arc::new(url))).ok_or_else(|| {
                EvalError::new(format!("URL parse error during conversion from string: parse {text:?}: invalid URI for request"))
            }),
            "isURL" => Ok(Value::Bool(parse_url(text).is_some())),
            _ => return None,
        }),
        (Some(Value::Ip(address)), []) => ip(function, *address).map(Ok),
        (Some(Value::Cidr(address, length)), arguments) => cidr(function, *address, *length, arguments),
        (Some(Value::Url(url)), []) => url_part(function, url).map(Ok),
        _ => None,
    }
}

fn invalid(kind: &str, text: &str) -> EvalError {
    EvalError::new(format!("{kind} {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse"))
}

/// No zones, and no IPv4 addresses in IPv6's clothes.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    match address {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => None,
        address => Some(address),
    }
}

fn parse_cidr(text: &str) -> Option<Value> {
    let (address, length) = text.split_once('/')?;
    let (address, length) = (parse_ip(address)?, length.parse::<u8>().ok()?);
    (length <= bits(address)).then_some(Value::Cidr(address, length))
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn parse_url(text: &str) -> Option<url::Url> {
    let base = url::Url::parse("kubernetes-path://").ok()?;
    if text.starts_with('/') { base.join(text).ok() } else { url::Url::parse(text).ok() }
}

fn ip(function: &str, address: IpAddr) -> Option<Value> {
    Some(match function {
        "family" => Value::Int(if address.is_ipv4() { 4 } else { 6 }),
        "isUnspecified" => Value::Bool(address.is_unspecified()),
        "isLoopback" => Value::Bool(address.is_loopback()),
        "isLinkLocalMulticast" => Value::Bool(match address {
            IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
            IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
        }),
        "isLinkLocalUnicast" => Value::Bool(is_link_local(address)),
        "isGlobalUnicast" => {
            let special = address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_link_local(address);
            Value::Bool(!special && address != IpAddr::V4(Ipv4Addr::BROADCAST))
        }
        _ => return None,
    })
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(address) & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(address) & mask))
        }
    }
}

fn cidr(function: &str, address: IpAddr, length: u8, arguments: &[Value]) -> Option<Result> {
    let contains = |other: IpAddr| other.is_ipv4() == address.is_ipv4() && masked(other, length) == masked(address, length);
    Some(match (function, arguments) {
        ("ip", []) => Ok(Value::Ip(address)),
        ("masked", []) => Ok(Value::Cidr(masked(address, length), length)),
        ("prefixLength", []) => Ok(Value::Int(i64::from(length))),
        ("containsIP", [Value::Ip(other)]) => Ok(Value::Bool(contains(*other))),
        ("containsIP", [Value::String(text)]) => {
            parse_ip(text).map(|other| Value::Bool(contains(other))).ok_or_else(|| invalid("IP address", text))
        }
        ("containsCIDR", [Value::Cidr(other, other_length)]) => Ok(Value::Bool(*other_length >= length && contains(*other))),
        ("containsCIDR", [Value::String(text)]) => match parse_cidr(text) {
            Some(Value::Cidr(other, other_length)) => Ok(Value::Bool(other_length >= length && contains(other))),
            _ => Err(invalid("CIDR address", text)),
        },
        _ => return None,
    })
}

fn url_part(function: &str, url: &url::Url) -> Option<Value> {
    let is_path = url.scheme() == "kubernetes-path";
    let host = if is_path { "" } else { url.host_str().unwrap_or_default() };
    let port = url.port().map(|port| port.to_string()).unwrap_or_default();
    Some(match function {
        "getScheme" => Value::text(if is_path { "" } else { url.scheme() }),
        "getHost" if port.is_empty() => Value::text(host),
        "getHost" => Value::text(&format!("{host}:{port}")),
        "getHostname" => Value::text(host.trim_start_matches('[').trim_end_matches(']')),
        "getPort" => Value::text(&port),
        "getEscapedPath" => Value::text(url.path()),
        "getQuery" => {
            let mut query: BTreeMap<Key, Vec<Value>> = BTreeMap::new();
            for (name, value) in url.query_pairs() {
                query.entry(Key::text(&name)).or_default().push(Value::text(&value));
            }
            Value::map(query.into_iter().map(|(name, values)| (name, Value::list(values))).collect())
        }
        _ => return None,
    })
}

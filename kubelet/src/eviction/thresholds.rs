//! When a node is short of something. Pure: what was measured and the time in, pressures and thresholds that are met out.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#eviction-thresholds>

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use kontiki_api::quantity::Quantity;

use crate::health::Pressure;

/// What is measured; in the order in which shortages are mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Bytes of memory.
    Memory,
    /// Bytes of the file system of volumes and logs.
    NodeFs,
    /// Its inodes.
    NodeFsInodes,
    /// Bytes of the file system of images and containers.
    ImageFs,
    /// Its inodes.
    ImageFsInodes,
    /// Numbers for processes.
    Pid,
}

/// All, with their names.
const SIGNALS: [(Signal, &str); 6] = [
    (Signal::Memory, "memory.available"),
    (Signal::NodeFs, "nodefs.available"),
    (Signal::NodeFsInodes, "nodefs.inodesFree"),
    (Signal::ImageFs, "imagefs.available"),
    (Signal::ImageFsInodes, "imagefs.inodesFree"),
    (Signal::Pid, "pid.available"),
];

/// Hard thresholds of a node whose settings say nothing.
pub const DEFAULTS: [(&str, &str); 5] = [
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
];

impl Signal {
    /// Name in settings.
    pub fn name(self) -> &'static str {
        SIGNALS.iter().find(|(signal, _)| *signal == self).map_or("", |(_, name)| name)
    }

    /// The condition that it makes.
    pub fn pressure(self) -> Pressure {
        match self {
            Self::Memory => Pressure::Memory,
            Self::NodeFs | Self::NodeFsInodes | Self::ImageFs | Self::ImageFsInodes => Pressure::Disk,
            Self::Pid => Pressure::Pid,
        }
    }

    /// Name of what runs out.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::NodeFs | Self::ImageFs => "ephemeral-storage",
            Self::NodeFsInodes | Self::ImageFsInodes => "inodes",
            Self::Pid => "pids",
        }
    }
}

/// The least that must be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Least {
    /// So many.
    Amount(u64),
    /// Millionths of what there is.
    Part(u32),
}

impl std::fmt::Display for Least {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Amount(amount) => write!(formatter, "{amount}"),
            Self::Part(millionths) => write!(formatter, "{}%", f64::from(*millionths) / 10_000.0),
        }
    }
}

impl Least {
    /// In numbers, of a whole.
    pub fn of(self, capacity: u64) -> u64 {
        match self {
            Self::Amount(amount) => amount,
            Self::Part(millionths) => {
                u64::try_from(u128::from(capacity) * u128::from(millionths) / 1_000_000).unwrap_or(u64::MAX)
            }
        }
    }
}

/// The least of each signal; one without is not watched.
pub type Thresholds = BTreeMap<Signal, Least>;

/// Reads one threshold; none where it can never be met, which switches it off.
pub fn parse(signal: &str, text: &str) -> Result<(Signal, Option<Least>), String> {
    let known = SIGNALS.iter().find(|(_, name)| *name == signal);
    let (signal, _) = known.ok_or_else(|| "this signal is not measured here".to_owned())?;
    if let Some(part) = text.strip_suffix('%') {
        let percent = part.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
        let percent = percent.ok_or("a part is between 0% and 100%")?;
        let millionths = (percent * 10_000.0).round() as u32;
        return Ok((*signal, (millionths > 0 && millionths < 1_000_000).then_some(Least::Part(millionths))));
    }
    let amount = text.parse::<Quantity>().ok().and_then(|amount| u64::try_from(amount.whole()).ok()).filter(|amount| *amount > 0);
    Ok((*signal, Some(Least::Amount(amount.ok_or("a threshold is a positive quantity or a part")?))))
}

/// What there is of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// What is left.
    pub available: u64,
    /// All.
    pub capacity: u64,
}

/// What was measured; what could not be is not here, and no shortage.
pub type Measures = BTreeMap<Signal, Measure>;

/// A threshold that is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Of what.
    pub signal: Signal,
    /// What must be left.
    pub least: u64,
    /// What is left.
    pub available: u64,
}

/// What the node is short of now.
pub fn shortages(thresholds: &Thresholds, measures: &Measures) -> Vec<Shortage> {
    let one = |(signal, least): (&Signal, &Least)| {
        let measure = measures.get(signal).filter(|measure| measure.capacity > 0)?;
        let (signal, least, available) = (*signal, least.of(measure.capacity), measure.available);
        (available < least).then_some(Shortage { signal, least, available })
    };
    thresholds.iter().filter_map(one).collect()
}

/// When each pressure was last there.
#[derive(Clone, Debug, Default)]
pub struct Seen(BTreeMap<Pressure, Timestamp>);

impl Seen {
    /// Pressures that are there, or were a moment ago: a node does not flap.
    pub fn pressures(&mut self, shortages: &[Shortage], transition: Duration, now: Timestamp) -> BTreeSet<Pressure> {
        self.0.extend(shortages.iter().map(|shortage| (shortage.signal.pressure(), now)));
        self.0.retain(|_, at| Duration::try_from(now.duration_since(*at)).unwrap_or_default() <= transition);
        self.0.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Thresholds {
        DEFAULTS
            .iter()
            .filter_map(|(signal, text)| parse(signal, text).ok())
            .filter_map(|(signal, least)| Some((signal, least?)))
            .collect()
    }

    #[test]
    fn thresholds_are_amounts_or_parts() {
        assert_eq!(defaults().len(), DEFAULTS.len());
        assert_eq!(parse("memory.available", "100Mi"), Ok((Signal::Memory, Some(Least::Amount(100 << 20)))));
        assert_eq!(parse("nodefs.available", "12.5%"), Ok((Signal::NodeFs, Some(Least::Part(125_000)))));
        assert_eq!(parse("imagefs.available", "0%"), Ok((Signal::ImageFs, None)));
        assert_eq!(parse("imagefs.available", "100%"), Ok((Signal::ImageFs, None)));
        for (signal, text) in [("disk", "1"), ("memory.available", "-1"), ("memory.available", "0"), ("pid.available", "101%")] {
            assert!(parse(signal, text).is_err(), "{signal} {text}");
        }
        assert_eq!(Least::Part(100_000).of(1000), 100);
    }

    #[test]
    fn a_shortage_is_less_than_the_least() {
        let measure = |available, capacity| Measure { available, capacity };
        let measures =
            |memory, disk| Measures::from([(Signal::Memory, measure(memory, 1 << 30)), (Signal::NodeFs, measure(disk, 1000))]);
        assert!(shortages(&defaults(), &measures(100 << 20, 100)).is_empty());
        let found = shortages(&defaults(), &measures((100 << 20) - 1, 99));
        let told: Vec<_> =
            found.iter().map(|shortage| (shortage.signal.resource(), shortage.least, shortage.available)).collect();
        assert_eq!(told, [("memory", 100 << 20, (100 << 20) - 1), ("ephemeral-storage", 100, 99)]);
        let unmeasured = Measures::from([(Signal::Memory, measure(0, 0))]);
        assert!(shortages(&defaults(), &unmeasured).is_empty(), "what cannot be measured costs no pod");
    }

    #[test]
    fn a_pressure_lasts_for_its_transition_period() {
        let at = |second: i64| Timestamp::from_second(second).unwrap_or_default();
        let minute = Duration::from_secs(60);
        let shortage = [Shortage { signal: Signal::ImageFs, least: 2, available: 1 }];
        let mut seen = Seen::default();
        assert!(seen.pressures(&[], minute, at(0)).is_empty());
        assert_eq!(seen.pressures(&shortage, minute, at(10)), BTreeSet::from([Pressure::Disk]));
        assert_eq!(seen.pressures(&[], minute, at(70)), BTreeSet::from([Pressure::Disk]));
        assert!(seen.pressures(&[], minute, at(71)).is_empty());
    }
}

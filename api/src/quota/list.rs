//! Amounts by resource name, in the form in which they were written.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

use crate::quantity::Quantity;

/// An amount, and whether it is shown with binary suffixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How much.
    pub quantity: Quantity,
    /// `1Gi` rather than `1073741824`.
    pub binary: bool,
}

impl Amount {
    /// A number of things.
    #[must_use]
    pub fn of(number: i64) -> Self {
        Self { quantity: Quantity::from_whole(number), binary: false }
    }

    /// What somebody wrote; nothing if it is no quantity.
    #[must_use]
    pub fn parse(value: &Value) -> Self {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Self { quantity: text.parse().unwrap_or_default(), binary: text.ends_with('i') }
    }

    /// The sum keeps the form of the first that is something.
    fn plus(self, other: Self) -> Self {
        let binary = if self.quantity.is_zero() { other.binary } else { self.binary };
        Self { quantity: self.quantity + other.quantity, binary }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.binary { formatter.write_str(&self.quantity.to_binary()) } else { self.quantity.fmt(formatter) }
    }
}

/// Amounts by resource name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List(pub BTreeMap<String, Amount>);

impl List {
    /// Reads a map of quantities; anything else is empty.
    #[must_use]
    pub fn parse(value: Option<&Value>) -> Self {
        let entries = value.and_then(Value::as_object).into_iter().flatten();
        Self(entries.map(|(name, value)| (name.clone(), Amount::parse(value))).collect())
    }

    /// The map of quantities.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let entries = self.0.iter().map(|(name, amount)| (name.clone(), Value::String(amount.to_string())));
        Value::Object(entries.collect::<Map<_, _>>())
    }

    /// Adds an amount.
    pub fn add(&mut self, name: &str, amount: Amount) {
        let sum = self.0.entry(name.to_owned()).or_default();
        *sum = sum.plus(amount);
    }

    /// Adds every amount of another list.
    pub fn add_all(&mut self, other: &Self) {
        other.0.iter().for_each(|(name, amount)| self.add(name, *amount));
    }

    /// What is more here than there; nothing becomes negative.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Self {
        let more = self.0.iter().map(|(name, amount)| {
            let before = other.0.get(name).copied().unwrap_or_default();
            let quantity = (amount.quantity - before.quantity).max(Quantity::default());
            (name.clone(), Amount { quantity, ..*amount })
        });
        Self(more.collect())
    }

    /// Less what another list has, down to nothing.
    pub fn take_away(&mut self, other: &Self) {
        for (name, amount) in &mut self.0 {
            if let Some(gone) = other.0.get(name) {
                amount.quantity = (amount.quantity - gone.quantity).max(Quantity::default());
            }
        }
    }

    /// The amounts whose names another list has.
    #[must_use]
    pub fn masked(&self, names: &Self) -> Self {
        self.filtered(|name, _| names.0.contains_key(name))
    }

    /// The amounts that a condition holds for.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&str, Amount) -> bool) -> Self {
        let kept = self.0.iter().filter(|(name, amount)| keep(name, **amount));
        Self(kept.map(|(name, amount)| (name.clone(), *amount)).collect())
    }

    /// Whether the amounts are the same, whatever their form.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().all(|(name, amount)| other.0.get(name).is_some_and(|own| own.quantity == amount.quantity))
    }
}

/// `a=1,b=2`.
impl fmt::Display for List {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        formatter.write_str(&parts.join(","))
    }
}

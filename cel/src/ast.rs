//! An expression as a tree, macros in place of the calls that they stand for.

use crate::value::Value;

/// An expression and where it begins.
#[derive(Clone, Debug)]
pub struct Expr {
    /// Byte offset in the source.
    pub at: usize,
    /// What it is.
    pub kind: Kind,
}

/// Kinds of expressions.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A value.
    Literal(Value),
    /// A variable, or the first part of a qualified name.
    Ident(String),
    /// `operand.field`; `has(operand.field)` where `test`; `operand.?field` where `optional`.
    Select { operand: Box<Expr>, field: String, test: bool, optional: bool },
    /// `operand[index]`, `operand[?index]`.
    Index { operand: Box<Expr>, index: Box<Expr>, optional: bool },
    /// `function(arguments)` and `target.function(arguments)`; operators too, under names such as `_+_`.
    Call { target: Option<Box<Expr>>, function: String, arguments: Vec<Expr> },
    /// `[a, ?b]`.
    List(Vec<(Expr, bool)>),
    /// `{k: v, ?k: v}`.
    Map(Vec<(Expr, Expr, bool)>),
    /// `Name{field: value}`.
    Object { name: String, fields: Vec<(String, Expr, bool)> },
    /// A loop over a list or map.
    Loop(Box<Loop>),
    /// `cel.bind(name, value, body)`.
    Bind { name: String, value: Box<Expr>, body: Box<Expr> },
    /// `optional.optMap(name, body)`; the body makes an optional itself where `flat`.
    OptionalMap { operand: Box<Expr>, name: String, body: Box<Expr>, flat: bool },
}

/// What a loop makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopKind {
    /// Whether the body holds for all.
    All,
    /// Whether it holds for one at least.
    Exists,
    /// Whether it holds for exactly one.
    ExistsOne,
    /// The items for which it holds.
    Filter,
    /// A list of the body's values.
    Map,
    /// A map of the body's values under the same keys.
    TransformMap,
    /// A map of the entries that the body makes.
    TransformMapEntry,
    /// The items in the order of the body's values.
    SortBy,
}

/// A loop.
#[derive(Clone, Debug)]
pub struct Loop {
    /// What it makes.
    pub kind: LoopKind,
    /// What it goes over.
    pub range: Expr,
    /// Variable: the item or key; with a second variable the index or key.
    pub first: String,
    /// Second variable: the item or value.
    pub second: Option<String>,
    /// Only where this holds.
    pub filter: Option<Expr>,
    /// What is computed for each.
    pub body: Expr,
}

impl Expr {
    /// Whether the expression refers to a variable, by its full name or its first part.
    pub fn uses(&self, name: &str) -> bool {
        let any = |items: &[&Self]| items.iter().any(|item| item.uses(name));
        match &self.kind {
            Kind::Literal(_) => false,
            Kind::Ident(known) => known == name,
            Kind::Select { operand, .. } => operand.uses(name),
            Kind::Index { operand, index, .. } => any(&[operand, index]),
            Kind::Call { target, arguments, .. } => {
                target.as_ref().is_some_and(|target| target.uses(name)) || arguments.iter().any(|argument| argument.uses(name))
            }
            Kind::List(items) => items.iter().any(|(item, _)| item.uses(name)),
            Kind::Map(entries) => entries.iter().any(|(key, value, _)| any(&[key, value])),
            Kind::Object { fields, .. } => fields.iter().any(|(_, value, _)| value.uses(name)),
            Kind::Loop(one) => any(&[&one.range, &one.body]) || one.filter.as_ref().is_some_and(|filter| filter.uses(name)),
            Kind::Bind { value, body, .. } => any(&[value, body]),
            Kind::OptionalMap { operand, body, .. } => any(&[operand, body]),
        }
    }
}

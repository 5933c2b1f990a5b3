//! The Common Expression Language as Kubernetes has it.
//!
//! In: an expression, the types of its variables, later their values. Out: a checked [`Program`], then a [`Value`] or an
//! error, with a bound on what an evaluation may cost. Pure: no IO, no clock; what a host adds (an authorizer) it hands
//! in. Knows nothing of Kubernetes' objects: whoever has a schema says what fields a type has ([`Types`]).
//!
//! Parser and evaluator are our own: the `cel` crate's evaluator knows neither optional values nor types, and its
//! parser comes with an ANTLR runtime.
//! Start at [`Program`].

mod ast;
mod check;
mod error;
mod eval;
mod functions;
mod json;
mod lexer;
mod macros;
mod names;
mod operators;
mod parser;
mod program;
mod quantity;
mod semver;
mod signatures;
mod types;
mod value;

pub use error::{EvalError, Issue, Issues};
pub use eval::Budget;
pub use json::{from_json, to_json};
pub use names::{escape, is_identifier, unescape};
pub use program::{Environment, Program, Variables};
pub use types::{NoTypes, Type, TypeTable, Types};
pub use value::{Host, Key, Value};

//! What is wrong with an expression, and what went wrong with its evaluation.

use std::fmt;

/// One mistake in an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Byte offset in the source.
    pub at: usize,
    /// What is wrong.
    pub message: String,
}

/// All mistakes of an expression, printed as cel-go prints them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Issues {
    text: String,
    /// The mistakes.
    pub issues: Vec<Issue>,
}

impl Issues {
    /// Mistakes of a source.
    #[must_use]
    pub fn new(source: &str, issues: Vec<Issue>) -> Self {
        Self { text: source.to_owned(), issues }
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, issue) in self.issues.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            let before = self.text.get(..issue.at).unwrap_or(&self.text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
            let text = self.text.lines().nth(line - 1).unwrap_or_default();
            write!(formatter, "ERROR: <input>:{line}:{}: {}\n | {text}\n | {}^", column + 1, issue.message, ".".repeat(column))?;
        }
        Ok(())
    }
}

/// Why an evaluation has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// A rule of the language.
    #[error("{0}")]
    Failed(String),
    /// It would cost more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostExceeded,
}

impl EvalError {
    /// An error with a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// No function takes these arguments.
    #[must_use]
    pub fn no_such_overload() -> Self {
        Self::new("no such overload")
    }
}

//! Tokens become an expression.
//!
//! <https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax>

use crate::{
    ast::{Expr, Kind},
    error::Issue,
    lexer::{self, Spanned, Token},
    macros, names,
    value::Value,
};

/// How deep expressions may nest.
const DEPTH_MAX: usize = 100;

/// Parses a source.
pub fn parse(source: &str) -> Result<Expr, Issue> {
    let mut parser = Parser { tokens: lexer::tokens(source)?, next: 0, depth: 0 };
    let expression = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(expression),
        other => Err(parser.unexpected(&other.clone(), "<EOF>")),
    }
}

struct Parser {
    tokens: Vec<Spanned>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].token
    }

    fn at(&self) -> usize {
        self.tokens[self.next].at
    }

    fn take(&mut self) -> Token {
        let token = self.tokens[self.next].token.clone();
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
        token
    }

    fn accept(&mut self, sign: &'static str) -> bool {
        let found = matches!(self.peek(), Token::Sign(found) if *found == sign);
        if found {
            self.take();
        }
        found
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), Issue> {
        if self.accept(sign) { Ok(()) } else { Err(self.unexpected(&self.peek().clone(), &format!("'{sign}'"))) }
    }

    fn unexpected(&self, token: &Token, expected: &str) -> Issue {
        let message = format!("Syntax error: mismatched input '{}' expecting {expected}", token.text());
        Issue { at: self.at(), message }
    }

    fn expression(&mut self) -> Result<Expr, Issue> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Issue { at: self.at(), message: format!("expression recursion limit exceeded: {DEPTH_MAX}") });
        }
        let condition = self.binary(0)?;
        let at = self.at();
        let expression = if self.accept("?") {
            let yes = self.binary(0)?;
            self.expect(":")?;
            let no = self.expression()?;
            call(at, "_?_:_", vec![condition, yes, no])
        } else {
            condition
        };
        self.depth -= 1;
        Ok(expression)
    }

    /// Operators by how tightly they bind; all of them associate to the left.
    fn binary(&mut self, level: usize) -> Result<Expr, Issue> {
        const LEVELS: [&[(&str, &str)]; 5] = [
            &[("||", "_||_")],
            &[("&&", "_&&_")],
            &[("==", "_==_"), ("!=", "_!=_"), ("<=", "_<=_"), (">=", "_>=_"), ("<", "_<_"), (">", "_>_"), ("in", "@in")],
            &[("+", "_+_"), ("-", "_-_")],
            &[("*", "_*_"), ("/", "_/_"), ("%", "_%_")],
        ];
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        loop {
            let at = self.at();
            let Token::Sign(sign) = self.peek() else { return Ok(left) };
            let Some((_, function)) = operators.iter().find(|(known, _)| known == sign) else { return Ok(left) };
            self.take();
            let right = self.binary(level + 1)?;
            left = call(at, function, vec![left, right]);
        }
    }

    fn unary(&mut self) -> Result<Expr, Issue> {
        let at = self.at();
        for (sign, function) in [("!", "!_"), ("-", "-_")] {
            if !self.accept(sign) {
                continue;
            }
            if sign == "-"
                && let Token::Literal(number) = self.peek()
            {
                let negated = match number {
                    Value::Int(i64::MIN) => Some(Value::Int(i64::MIN)),
                    Value::Int(number) => Some(Value::Int(-number)),
                    Value::Double(number) => Some(Value::Double(-number)),
                    _ => None,
                };
                if let Some(value) = negated {
                    self.take();
                    return self.member(Expr { at, kind: Kind::Literal(value) });
                }
            }
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(Issue { at, message: format!("expression recursion limit exceeded: {DEPTH_MAX}") });
            }
            let operand = self.unary()?;
            self.depth -= 1;
            return Ok(call(at, function, vec![operand]));
        }
        let primary = self.primary()?;
        self.member(primary)
    }

    fn member(&mut self, mut operand: Expr) -> Result<Expr, Issue> {
        loop {
            let at = self.at();
            if self.accept(".") {
                let field = self.field()?;
                operand = if self.accept("(") {
                    let arguments = self.arguments(")")?;
                    macros::call(at, Some(operand), field, arguments)?
                } else {
                    let operand = Box::new(operand);
                    Expr { at, kind: Kind::Select { operand, field, test: false, optional: false } }
                };
            } else if self.accept(".?") {
                let field = self.field()?;
                operand = Expr { at, kind: Kind::Select { operand: Box::new(operand), field, test: false, optional: true } };
            } else if self.accept("[") || matches!(self.peek(), Token::Sign("[?")) {
                let optional = self.accept("[?");
                let index = Box::new(self.expression()?);
                self.expect("]")?;
                operand = Expr { at, kind: Kind::Index { operand: Box::new(operand), index, optional } };
            } else if matches!(self.peek(), Token::Sign("{"))
                && let Some(name) = qualified_name(&operand)
            {
                self.take();
                let fields = self.fields()?;
                operand = Expr { at: operand.at, kind: Kind::Object { name, fields } };
            } else {
                return Ok(operand);
            }
        }
    }

    fn field(&mut self) -> Result<String, Issue> {
        match self.take() {
            Token::Ident(name) | Token::Quoted(name) => Ok(name),
            Token::Sign("in") => Ok("in".to_owned()),
            other => {
                self.next -= usize::from(!matches!(other, Token::End));
                Err(self.unexpected(&other, "IDENTIFIER"))
            }
        }
    }

    fn arguments(&mut self, close: &'static str) -> Result<Vec<Expr>, Issue> {
        let mut arguments = Vec::new();
        while !self.accept(close) {
            arguments.push(self.expression()?);
            if !self.accept(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(arguments)
    }

    fn fields(&mut self) -> Result<Vec<(String, Expr, bool)>, Issue> {
        let mut fields = Vec::new();
        while !self.accept("}") {
            let optional = self.accept("?");
            let name = self.field()?;
            self.expect(":")?;
            fields.push((name, self.expression()?, optional));
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(fields)
    }

    fn primary(&mut self) -> Result<Expr, Issue> {
        let at = self.at();
        match self.take() {
            Token::Literal(value) => Ok(Expr { at, kind: Kind::Literal(value) }),
            Token::Sign("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign(open @ ("[" | "[?")) => self.list(at, open == "[?"),
            Token::Sign("{") => self.map(at),
            // A leading dot names what lies outside of every container; there is none.
            Token::Sign(".") => {
                let name = self.field()?;
                self.named(at, name)
            }
            Token::Ident(name) => self.named(at, name),
            other => {
                self.next -= usize::from(!matches!(other, Token::End));
                let expected = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
                Err(self.unexpected(&other, expected))
            }
        }
    }

    fn named(&mut self, at: usize, name: String) -> Result<Expr, Issue> {
        if names::is_reserved(&name) {
            return Err(Issue { at, message: format!("reserved identifier: {name}") });
        }
        if self.accept("(") {
            let arguments = self.arguments(")")?;
            return macros::call(at, None, name, arguments);
        }
        Ok(Expr { at, kind: Kind::Ident(name) })
    }

    fn list(&mut self, at: usize, mut optional: bool) -> Result<Expr, Issue> {
        let mut items = Vec::new();
        while !self.accept("]") {
            optional |= self.accept("?");
            items.push((self.expression()?, optional));
            optional = false;
            if !self.accept(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(Expr { at, kind: Kind::List(items) })
    }

    fn map(&mut self, at: usize) -> Result<Expr, Issue> {
        let mut entries = Vec::new();
        while !self.accept("}") {
            let optional = self.accept("?");
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((key, self.expression()?, optional));
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Expr { at, kind: Kind::Map(entries) })
    }
}

fn call(at: usize, function: &str, arguments: Vec<Expr>) -> Expr {
    Expr { at, kind: Kind::Call { target: None, function: function.to_owned(), arguments } }
}

/// `a.b.c` of selections alone.
pub fn qualified_name(expression: &Expr) -> Option<String> {
    match &expression.kind {
        Kind::Ident(name) => Some(name.clone()),
        Kind::Select { operand, field, test: false, optional: false } => Some(format!("{}.{field}", qualified_name(operand)?)),
        _ => None,
    }
}

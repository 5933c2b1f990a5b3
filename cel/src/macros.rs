//! Calls that are no functions: `has`, loops, `cel.bind`, `optMap`.

use crate::{
    ast::{Expr, Kind, Loop, LoopKind},
    error::Issue,
    parser::qualified_name,
};

/// A call, or what a macro of that name makes of it.
pub fn call(at: usize, target: Option<Expr>, function: String, arguments: Vec<Expr>) -> Result<Expr, Issue> {
    let Some(target) = target else {
        if function == "has" && arguments.len() == 1 {
            return has(at, arguments);
        }
        return Ok(Expr { at, kind: Kind::Call { target: None, function, arguments } });
    };
    if function == "bind" && arguments.len() == 3 && matches!(&target.kind, Kind::Ident(name) if name == "cel") {
        return bind(at, arguments);
    }
    if matches!(function.as_str(), "optMap" | "optFlatMap") && arguments.len() == 2 {
        let flat = function == "optFlatMap";
        let [variable, body] = take(arguments, at)?;
        let name = identifier(&variable)?;
        return Ok(Expr { at, kind: Kind::OptionalMap { operand: Box::new(target), name, body: Box::new(body), flat } });
    }
    let shape = (function.as_str(), arguments.len());
    let kind = match shape {
        ("all", 2 | 3) => LoopKind::All,
        ("exists", 2 | 3) => LoopKind::Exists,
        ("exists_one" | "existsOne", 2 | 3) => LoopKind::ExistsOne,
        ("filter", 2) => LoopKind::Filter,
        ("map", 2 | 3) | ("transformList", 3 | 4) => LoopKind::Map,
        ("transformMap", 3 | 4) => LoopKind::TransformMap,
        ("transformMapEntry", 3 | 4) => LoopKind::TransformMapEntry,
        ("sortBy", 2) => LoopKind::SortBy,
        _ => return Ok(Expr { at, kind: Kind::Call { target: Some(Box::new(target)), function, arguments } }),
    };
    // Which arguments are variables: the last is the body, the one before it a filter where there is one too many.
    let two = matches!(shape, ("all" | "exists" | "exists_one" | "existsOne", 3)) || function.starts_with("transform");
    let variables = if two { 2 } else { 1 };
    let mut arguments = arguments.into_iter();
    let mut next = || arguments.next().ok_or_else(|| Issue { at, message: "argument is missing".to_owned() });
    let first = identifier(&next()?)?;
    let second = if two { Some(identifier(&next()?)?) } else { None };
    let filter = if shape.1 == variables + 2 { Some(next()?) } else { None };
    let body = next()?;
    Ok(Expr { at, kind: Kind::Loop(Box::new(Loop { kind, range: target, first, second, filter, body })) })
}

fn take<const N: usize>(arguments: Vec<Expr>, at: usize) -> Result<[Expr; N], Issue> {
    arguments.try_into().map_err(|_| Issue { at, message: "wrong number of arguments".to_owned() })
}

fn identifier(expression: &Expr) -> Result<String, Issue> {
    match &expression.kind {
        Kind::Ident(name) => Ok(name.clone()),
        _ => Err(Issue { at: expression.at, message: "argument must be a simple name".to_owned() }),
    }
}

fn has(at: usize, arguments: Vec<Expr>) -> Result<Expr, Issue> {
    let [argument] = take(arguments, at)?;
    match argument.kind {
        Kind::Select { operand, field, test: false, optional: false } => {
            Ok(Expr { at: argument.at, kind: Kind::Select { operand, field, test: true, optional: false } })
        }
        _ => Err(Issue { at: argument.at, message: "invalid argument to has() macro".to_owned() }),
    }
}

fn bind(at: usize, arguments: Vec<Expr>) -> Result<Expr, Issue> {
    let [variable, value, body] = take(arguments, at)?;
    let name = qualified_name(&variable).filter(|name| !name.contains('.'));
    let name = name
        .ok_or_else(|| Issue { at: variable.at, message: "cel.bind() variable names must be simple identifiers".to_owned() })?;
    Ok(Expr { at, kind: Kind::Bind { name, value: Box::new(value), body: Box::new(body) } })
}

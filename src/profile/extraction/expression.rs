//! What a calculation works out: arithmetic, comparisons and choices over values of the answer.
//!
//! A value that is missing makes everything missing that needs it; only `== null` and `!= null` can tell that it is.

use super::value::Value;

/// A calculation, its names resolved to places among the inputs.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    /// `None` is `null`.
    Constant(Option<Value>),
    Input(usize),
    Negate(Box<Expression>),
    Not(Box<Expression>),
    /// Characters of a text.
    Length(Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
    /// Condition, then, else.
    Choose(Box<[Expression; 3]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Plus,
    Minus,
    Times,
    Divide,
}

impl Expression {
    /// The value, or `None` when an input is missing or of the wrong kind, and for numbers that are none (a division by zero).
    pub(super) fn evaluate(&self, inputs: &[Option<Value>]) -> Option<Value> {
        match self {
            Expression::Constant(value) => value.clone(),
            Expression::Input(at) => inputs.get(*at)?.clone(),
            Expression::Negate(inner) => Value::number(-number(inner.evaluate(inputs))?),
            Expression::Not(inner) => Some(Value::Bool(!truth(inner.evaluate(inputs))?)),
            Expression::Length(inner) => match inner.evaluate(inputs)? {
                Value::Text(text) => Value::number(text.chars().count() as f64),
                _ => None,
            },
            Expression::Binary(operator, left, right) => {
                operator.evaluate(left.evaluate(inputs), || right.evaluate(inputs))
            }
            Expression::Choose(parts) => {
                let [condition, then, otherwise] = &**parts;
                match truth(condition.evaluate(inputs))? {
                    true => then.evaluate(inputs),
                    false => otherwise.evaluate(inputs),
                }
            }
        }
    }
}

impl Operator {
    fn evaluate(self, left: Option<Value>, right: impl FnOnce() -> Option<Value>) -> Option<Value> {
        let truth_value = match self {
            Operator::And => truth(left)? && truth(right())?,
            Operator::Or => truth(left)? || truth(right())?,
            Operator::Equal => left == right(),
            Operator::Unequal => left != right(),
            _ => {
                let (left, right) = (number(left)?, number(right())?);
                match self {
                    Operator::Less => left < right,
                    Operator::LessOrEqual => left <= right,
                    Operator::Greater => right < left,
                    Operator::GreaterOrEqual => right <= left,
                    Operator::Plus => return Value::number(left + right),
                    Operator::Minus => return Value::number(left - right),
                    Operator::Times => return Value::number(left * right),
                    _ => return Value::number(left / right),
                }
            }
        };
        Some(Value::Bool(truth_value))
    }
}

fn number(value: Option<Value>) -> Option<f64> {
    match value? {
        Value::Number(number) => Some(number),
        _ => None,
    }
}

fn truth(value: Option<Value>) -> Option<bool> {
    match value? {
        Value::Bool(truth) => Some(truth),
        _ => None,
    }
}

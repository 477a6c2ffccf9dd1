//! Reads a calculation such as `eval_ns > 0 ? (output * 1000000000.0) / eval_ns : 0`.

use super::expression::{Expression, Operator};
use super::token::{Token, tokens};
use super::value::Value;

const TEXT_BYTES_MAX: usize = 512;
const DEPTH_MAX: usize = 64;

/// What a calculation may be made of, for people.
pub(super) const GRAMMAR: &str = "a calculation is made of names, numbers, texts, `null`, `len(name)`, `+ - * /`, `< <= > >= == !=`, \
     `&& || !`, parentheses and `condition ? this : that`";

/// What binds, the weakest first.
const LEVELS: &[&[(&str, Operator)]] = &[
    &[("||", Operator::Or)],
    &[("&&", Operator::And)],
    &[("==", Operator::Equal), ("!=", Operator::Unequal)],
    &[
        ("<", Operator::Less),
        ("<=", Operator::LessOrEqual),
        (">", Operator::Greater),
        (">=", Operator::GreaterOrEqual),
    ],
    &[("+", Operator::Plus), ("-", Operator::Minus)],
    &[("*", Operator::Times), ("/", Operator::Divide)],
];

/// Reads a calculation. `place_of` tells where the value of a name stands among the inputs.
///
/// # Errors
/// A sentence of what is wrong.
pub(super) fn parse(
    text: &str,
    place_of: &dyn Fn(&str) -> Option<usize>,
) -> Result<Expression, String> {
    if TEXT_BYTES_MAX < text.len() {
        return Err(format!("it is longer than {TEXT_BYTES_MAX} bytes"));
    }
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
        place_of,
    };
    let whole = parser.choice()?;
    match parser.tokens.get(parser.at) {
        None => Ok(whole),
        Some(token) => Err(format!("{} stands where it should end", told(Some(token)))),
    }
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    depth: usize,
    place_of: &'a dyn Fn(&str) -> Option<usize>,
}

impl Parser<'_> {
    /// `condition ? this : that`, or whatever binds more.
    fn choice(&mut self) -> Result<Expression, String> {
        self.deeper(|parser| {
            let condition = parser.level(LEVELS)?;
            if !parser.takes("?") {
                return Ok(condition);
            }
            let then = parser.choice()?;
            parser.expect(":")?;
            let otherwise = parser.choice()?;
            Ok(Expression::Choose(Box::new([condition, then, otherwise])))
        })
    }

    /// Operators of one level, from left to right.
    fn level(&mut self, levels: &[&[(&str, Operator)]]) -> Result<Expression, String> {
        let Some((operators, tighter)) = levels.split_first() else {
            return self.unary();
        };
        let mut left = self.level(tighter)?;
        while let Some((_, operator)) = operators.iter().find(|(sign, _)| self.takes(sign)) {
            let right = self.level(tighter)?;
            left = Expression::Binary(*operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expression, String> {
        self.deeper(|parser| {
            if parser.takes("-") {
                return Ok(Expression::Negate(Box::new(parser.unary()?)));
            }
            if parser.takes("!") {
                return Ok(Expression::Not(Box::new(parser.unary()?)));
            }
            parser.atom()
        })
    }

    fn atom(&mut self) -> Result<Expression, String> {
        let token = self.tokens.get(self.at).copied();
        self.at += 1;
        Ok(match token {
            Some(Token::Number(number)) => Expression::Constant(Some(Value::Number(number))),
            Some(Token::Text(text)) => Expression::Constant(Some(Value::text(text))),
            Some(Token::Name("null")) => Expression::Constant(None),
            Some(Token::Name("len")) if self.takes("(") => {
                let inner = self.choice()?;
                self.expect(")")?;
                Expression::Length(Box::new(inner))
            }
            Some(Token::Name(name)) => match (self.place_of)(name) {
                Some(place) => Expression::Input(place),
                None => {
                    return Err(format!(
                        "`{name}` is no path, no header and no calculation before this one"
                    ));
                }
            },
            Some(Token::Sign("(")) => {
                let inner = self.choice()?;
                self.expect(")")?;
                inner
            }
            other => {
                return Err(format!(
                    "{} stands where a value should",
                    told(other.as_ref())
                ));
            }
        })
    }

    fn takes(&mut self, sign: &str) -> bool {
        let is_next = matches!(self.tokens.get(self.at), Some(Token::Sign(next)) if *next == sign);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        match self.takes(sign) {
            true => Ok(()),
            false => {
                let next = told(self.tokens.get(self.at));
                Err(format!("{next} stands where `{sign}` should"))
            }
        }
    }

    /// One level of nesting, which is one frame of the stack.
    fn deeper(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Expression, String>,
    ) -> Result<Expression, String> {
        self.depth += 1;
        if DEPTH_MAX < self.depth {
            return Err(format!("it is nested deeper than {DEPTH_MAX} levels"));
        }
        let read = read(self);
        self.depth -= 1;
        read
    }
}

fn told(token: Option<&Token<'_>>) -> String {
    match token {
        None => "the end".to_owned(),
        Some(Token::Number(number)) => format!("`{number}`"),
        Some(Token::Name(name)) => format!("`{name}`"),
        Some(Token::Text(text)) => format!("the text `{text}`"),
        Some(Token::Sign(sign)) => format!("`{sign}`"),
    }
}

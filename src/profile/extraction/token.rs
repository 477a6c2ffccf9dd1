//! Cuts a calculation into tokens.

/// The smallest parts of a calculation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'a> {
    Number(f64),
    Name(&'a str),
    Text(&'a str),
    Sign(&'static str),
}

/// The longer ones first: `<=` is not `<` and something.
const SIGNS: &[&str] = &[
    "<=", ">=", "==", "!=", "&&", "||", "<", ">", "!", "+", "-", "*", "/", "(", ")", "?", ":",
];

/// # Errors
/// A sentence of what is no token.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, len) = match first {
            'a'..='z' | 'A'..='Z' | '_' => {
                let len = word_len(rest);
                (Token::Name(&rest[..len]), len)
            }
            '0'..='9' => number(rest)?,
            '"' | '\'' => quoted(rest, first)?,
            _ => {
                let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
                let sign = sign.ok_or_else(|| format!("it can't hold `{first}`"))?;
                (Token::Sign(sign), sign.len())
            }
        };
        tokens.push(token);
        rest = rest[len..].trim_start();
    }
    Ok(tokens)
}

fn word_len(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len())
}

/// Digits, a fraction, an exponent: `1000000000.0`, `1e9`, `2.5e-3`.
fn number(text: &str) -> Result<(Token<'_>, usize), String> {
    let digits = |from: usize| {
        let rest = &text[from..];
        from + rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len())
    };
    let mut end = digits(0);
    if text[end..].starts_with('.') {
        end = digits(end + 1);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        end = digits(end + 1 + sign);
    }
    let end = end + word_len(&text[end..]);
    match text[..end].parse::<f64>() {
        Ok(number) if number.is_finite() => Ok((Token::Number(number), end)),
        _ => Err(format!("`{}` is no number", &text[..end])),
    }
}

fn quoted(text: &str, quote: char) -> Result<(Token<'_>, usize), String> {
    match text[1..].split_once(quote) {
        Some((inner, _)) => Ok((Token::Text(inner), inner.len() + 2)),
        None => Err(format!("the text that begins with {quote} does not end")),
    }
}

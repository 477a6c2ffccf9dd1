//! A place in a JSON document: `$.usage.prompt_tokens`, `$.choices[0]["finish_reason"]`.

const PATH_BYTES_MAX: usize = 256;
const STEPS_MAX: usize = 16;
const INDEX_MAX: usize = 9_999;

/// What a path may be made of, for people.
pub(super) const GRAMMAR: &str = "a path is `$` and then members `.name`, `[\"name\"]` and items `[n]`, such as `$.choices[0].finish_reason`";

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Printable ASCII without quotes and backslashes, so that servers write it as it is.
    Member(String),
    /// Counts from 0.
    Item(usize),
}

/// At least one step, the first of them a member: answers are objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    steps: Vec<Step>,
}

impl Path {
    /// # Errors
    /// A sentence of what is wrong.
    pub(super) fn parse(text: &str) -> Result<Path, String> {
        if PATH_BYTES_MAX < text.len() {
            return Err(format!("it is longer than {PATH_BYTES_MAX} bytes"));
        }
        let Some(mut rest) = text.trim().strip_prefix('$') else {
            return Err("it does not begin with `$`".to_owned());
        };
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if steps.len() == STEPS_MAX {
                return Err(format!("it has more than {STEPS_MAX} steps"));
            }
            let (step, left) = step(rest)?;
            steps.push(step);
            rest = left;
        }
        match steps.first() {
            Some(Step::Member(_)) => Ok(Path { steps }),
            Some(Step::Item(_)) => Err("answers are objects, not lists".to_owned()),
            None => Err("it names the whole answer, not a value in it".to_owned()),
        }
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The members on the way, the last one first.
    pub(super) fn members(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().rev().filter_map(|step| match step {
            Step::Member(name) => Some(name.as_str()),
            Step::Item(_) => None,
        })
    }
}

/// Takes one step off the front.
fn step(text: &str) -> Result<(Step, &str), String> {
    if let Some(rest) = text.strip_prefix('.') {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let end = rest.find(|c| !plain(c)).unwrap_or(rest.len());
        return match end {
            0 => Err(format!("`{text}` does not begin with a member's name")),
            _ => Ok((Step::Member(rest[..end].to_owned()), &rest[end..])),
        };
    }
    let inner = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let Some((inner, rest)) = inner else {
        return Err(format!("`{text}` is neither a member nor an item"));
    };
    Ok((bracketed(inner)?, rest))
}

fn bracketed(inner: &str) -> Result<Step, String> {
    let quoted = ['"', '\'']
        .iter()
        .find_map(|quote| inner.strip_prefix(*quote)?.strip_suffix(*quote));
    if let Some(name) = quoted {
        let plain = |c: char| (' '..='~').contains(&c) && !"\"'\\".contains(c);
        return match !name.is_empty() && name.chars().all(plain) {
            true => Ok(Step::Member(name.to_owned())),
            false => Err(format!("`[{inner}]` is not a name of printable ASCII")),
        };
    }
    match inner.parse::<usize>() {
        Ok(at) if at <= INDEX_MAX && !inner.starts_with('+') => Ok(Step::Item(at)),
        _ => Err(format!(
            "`[{inner}]` is neither a quoted name nor an item's number up to {INDEX_MAX}"
        )),
    }
}

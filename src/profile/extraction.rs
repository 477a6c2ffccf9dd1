//! `metrics.extraction` of a profile: which figures and words of a node's answers are worth telling, and what is worked out of them.
//!
//! Compiled once, when the profile is read; then a frame of an answer costs a few byte searches, and only the last frames that hold
//! something are read, when the answer has ended.

mod path;

mod sample;

mod walk;

mod sight;

mod token;

mod expression;

mod parse;

mod value;

pub use sample::Sample;
pub use value::Value;

use std::sync::Arc;

use expression::Expression;
use path::Path;
use sight::Sight;
use token::Token;

/// Paths, headers and calculations of one profile, together: paths are told apart by the bits of a `u64`.
const ENTRIES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 64;
/// Known to every calculation, unless the profile gives the name to something of its own: from the request's head to the answer's end.
const RESPONSE_TIME: &str = "response_time_ms";

/// `metrics.extraction` as it was written. The order of the lists is the order of the file; absent keys are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtractionText {
    /// `enabled`
    pub enabled: bool,
    /// `source`: `response_body` (also when empty) or `response_headers`.
    pub source: String,
    /// `format`: `json` (also when empty).
    pub format: String,
    /// `paths`: name and JSON path. An empty path takes an inherited entry away.
    pub paths: Vec<(String, String)>,
    /// `headers`: name and header. They are read whatever the source.
    pub headers: Vec<(String, String)>,
    /// `calculations`: name and expression over the names of paths, headers and earlier calculations.
    pub calculations: Vec<(String, String)>,
}

impl ExtractionText {
    /// The same without paths, and without the calculations that need one.
    pub fn without_paths(mut self) -> ExtractionText {
        let mut gone: Vec<String> = self.paths.drain(..).map(|(name, _)| name).collect();
        self.calculations.retain(|(name, text)| {
            let tokens = token::tokens(text).unwrap_or_default();
            let is_gone = |token: &Token| matches!(token, Token::Name(name) if gone.iter().any(|known| known == name));
            let stays = !tokens.iter().any(is_gone);
            if !stays {
                gone.push(name.clone());
            }
            stays
        });
        self
    }
}

/// `metrics.extraction` of a profile: as it was written, and ready for use.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    text: ExtractionText,
    compiled: Option<Arc<Extraction>>,
}

impl PartialEq for Figures {
    fn eq(&self, other: &Figures) -> bool {
        self.text == other.text
    }
}

impl Figures {
    /// # Errors
    /// As [`Extraction::compile`].
    pub fn new(text: ExtractionText) -> Result<Figures, Vec<Problem>> {
        let compiled = Extraction::compile(&text)?.map(Arc::new);
        Ok(Figures { text, compiled })
    }

    /// As it was written.
    pub fn text(&self) -> &ExtractionText {
        &self.text
    }

    /// `None` when nothing is to be taken from answers.
    pub fn extraction(&self) -> Option<Arc<Extraction>> {
        self.compiled.clone()
    }
}

/// What is wrong with one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The entry, below `metrics.extraction`: `paths.input_tokens`.
    pub what: String,
    /// A sentence without its full stop.
    pub why: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// What to take from answers. Names are `[a-z0-9_]{1,64}`, each there once, at most 64 of them.
#[derive(Debug)]
pub struct Extraction {
    /// Of paths, headers and calculations, in this order.
    names: Vec<Arc<str>>,
    paths: Vec<Path>,
    headers: Vec<String>,
    calculations: Vec<Expression>,
    sight: Sight,
}

/// What an extraction gave: name and value, only those that are there.
pub type Extracted = Vec<(Arc<str>, Value)>;

impl Extraction {
    /// `None` when it is switched off or has no entries.
    ///
    /// # Errors
    /// Every mistake found.
    pub fn compile(text: &ExtractionText) -> Result<Option<Extraction>, Vec<Problem>> {
        if !text.enabled {
            return Ok(None);
        }
        let mut compiler = Compiler::default();
        compiler.check_source(text);
        let paths = compiler.paths(&text.paths);
        let headers = compiler.headers(&text.headers);
        let calculations = compiler.calculations(&text.calculations);
        let Compiler { names, problems } = compiler;
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok((!names.is_empty()).then(|| Extraction {
            sight: Sight::new(&paths),
            names,
            paths,
            headers,
            calculations,
        }))
    }

    /// A bit for each path that this frame may have a value for; 0 for most frames. Cheap: it is asked of every frame.
    pub fn sight(&self, frame: &[u8]) -> u64 {
        self.sight.of(frame)
    }
}

#[derive(Default)]
struct Compiler {
    names: Vec<Arc<str>>,
    problems: Vec<Problem>,
}

impl Compiler {
    fn problem(&mut self, what: String, why: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem {
            what,
            why: why.into(),
            hint: Some(hint.into()),
        });
    }

    fn check_source(&mut self, text: &ExtractionText) {
        match text.source.as_str() {
            "" | "response_body" => (),
            "response_headers" if text.paths.is_empty() => (),
            "response_headers" => self.problem(
                "paths".to_owned(),
                "paths lead through bodies, but `source` is `response_headers`",
                "write `source: response_body`; headers are read as well then",
            ),
            other => self.problem(
                "source".to_owned(),
                format!("`{other}` is no source"),
                "write `response_body` or `response_headers`",
            ),
        }
        if !["", "json"].contains(&text.format.as_str()) {
            let why = format!("`{}` is no format that can be read", text.format);
            self.problem("format".to_owned(), why, "write `json`");
        }
        let entries = [&text.paths, &text.headers, &text.calculations];
        let entries: usize = entries.map(Vec::len).iter().sum();
        if ENTRIES_MAX < entries {
            let why = format!("{entries} entries are too many");
            let hint = format!("keep at most {ENTRIES_MAX} paths, headers and calculations");
            self.problem("paths".to_owned(), why, hint);
        }
    }

    fn paths(&mut self, entries: &[(String, String)]) -> Vec<Path> {
        let written = entries.iter().filter(|(_, path)| !path.trim().is_empty());
        let mut paths = Vec::new();
        for (name, text) in written.take(ENTRIES_MAX) {
            self.name("paths", name);
            match Path::parse(text) {
                Ok(path) => paths.push(path),
                Err(why) => self.problem(format!("paths.{name}"), why, path::GRAMMAR),
            }
        }
        paths
    }

    fn headers(&mut self, entries: &[(String, String)]) -> Vec<String> {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        for (name, header) in entries {
            self.name("headers", name);
            if header.is_empty() || !header.chars().all(is_token) {
                let why = format!("`{header}` is no name of a header");
                self.problem(
                    format!("headers.{name}"),
                    why,
                    "write one such as `X-Queue-Time`",
                );
            }
        }
        entries.iter().map(|(_, header)| header.clone()).collect()
    }

    fn calculations(&mut self, entries: &[(String, String)]) -> Vec<Expression> {
        let mut calculations = Vec::new();
        // The response time stands between what is read and what is worked out.
        let read = self.names.len();
        for (name, text) in entries.iter().take(ENTRIES_MAX) {
            let place_of = |wanted: &str| {
                let own = self.names.iter().position(|name| **name == *wanted);
                let own = own.map(|at| at + usize::from(read <= at));
                own.or((wanted == RESPONSE_TIME).then_some(read))
            };
            match parse::parse(text, &place_of) {
                Ok(calculation) => calculations.push(calculation),
                Err(why) => self.problem(format!("calculations.{name}"), why, parse::GRAMMAR),
            }
            self.name("calculations", name);
        }
        calculations
    }

    /// Takes an entry's name, good or bad, so that places go on counting.
    fn name(&mut self, section: &str, name: &str) {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(plain);
        if !fits {
            let why = format!("`{name}` can't be a metric's name");
            let hint =
                format!("use at most {NAME_BYTES_MAX} lower-case letters, digits and underscores");
            self.problem(section.to_owned(), why, hint);
        }
        if self.names.iter().any(|known| **known == *name) {
            let why = "the name is given twice";
            self.problem(format!("{section}.{name}"), why, "rename one of them");
        }
        self.names.push(name.into());
    }
}

#[cfg(test)]
mod tests;

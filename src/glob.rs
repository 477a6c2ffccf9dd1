//! Patterns over names: `*` stands for any text, also none; case does not matter.

/// Longest pattern, bytes.
pub const GLOB_BYTES_MAX: usize = 256;

/// A pattern such as `*embed*` or `llama3*:70b`. Nothing but `*` is special.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    /// What stands between the stars, in order; one more than there are stars, the outer ones anchored to the ends.
    parts: Box<[Box<str>]>,
}

impl Glob {
    /// Reads a pattern; `None` when it is empty or longer than [`GLOB_BYTES_MAX`] bytes.
    pub fn new(pattern: &str) -> Option<Glob> {
        let legal = !pattern.is_empty() && pattern.len() <= GLOB_BYTES_MAX;
        legal.then(|| Glob {
            parts: pattern.split('*').map(Box::from).collect(),
        })
    }

    /// Whether the whole of `name` fits. ASCII letters are compared without case.
    pub fn matches(&self, name: &str) -> bool {
        let name = name.as_bytes();
        let (first, middle, last) = match &*self.parts {
            [] => return false,
            [whole] => return name.eq_ignore_ascii_case(whole.as_bytes()),
            [first, middle @ .., last] => (first.as_bytes(), middle, last.as_bytes()),
        };
        if name.len() < first.len() + last.len() {
            return false;
        }
        let (start, rest) = name.split_at(first.len());
        let (mut rest, end) = rest.split_at(rest.len() - last.len());
        if !start.eq_ignore_ascii_case(first) || !end.eq_ignore_ascii_case(last) {
            return false;
        }
        // The leftmost place of each part leaves the most room for those behind it, so no other need be tried.
        for part in middle {
            match find(rest, part.as_bytes()) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        true
    }
}

impl Glob {
    /// Whether the pattern means a model: its whole name, or the name without what the pattern does not speak of: the namespace when
    /// it holds no `/`, the tag when it holds no `:`.
    pub fn means(&self, model: &str) -> bool {
        let bare = match self.speaks_of('/') {
            true => model,
            false => model.rsplit('/').next().unwrap_or(model),
        };
        let untagged = bare.split(':').next().unwrap_or(bare);
        self.matches(model)
            || self.matches(bare)
            || (!self.speaks_of(':') && self.matches(untagged))
    }

    fn speaks_of(&self, separator: char) -> bool {
        self.parts.iter().any(|part| part.contains(separator))
    }
}

impl std::fmt::Display for Glob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.parts.join("*"))
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    (0..=text.len().checked_sub(part.len())?)
        .find(|&at| text[at..at + part.len()].eq_ignore_ascii_case(part))
}

/// Which names are let through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// When there are any, a name must fit one of them.
    pub include: Vec<Glob>,
    /// A name that fits one of them is out, whatever `include` says.
    pub exclude: Vec<Glob>,
}

impl Filter {
    /// Whether a name passes.
    pub fn admits(&self, name: &str) -> bool {
        self.admits_all(&[name])
    }

    /// Whether what goes by all these names passes: any of them may be let in, none may be kept out.
    pub fn admits_all(&self, names: &[&str]) -> bool {
        let fits = |globs: &[Glob]| {
            let fits = |glob: &Glob| names.iter().any(|name| glob.matches(name));
            globs.iter().any(fits)
        };
        (self.include.is_empty() || fits(&self.include)) && !fits(&self.exclude)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Filter, GLOB_BYTES_MAX, Glob};

    fn matches(pattern: &str, name: &str) -> bool {
        Glob::new(pattern).expect("a pattern").matches(name)
    }

    #[test]
    fn a_star_is_any_text() {
        let table = [
            ("*", "", true),
            ("*", "anything", true),
            ("**", "a", true),
            ("llama3*", "LLAMA3.2:3b", true),
            ("llama3*", "codellama3", false),
            ("*-32k", "yi-32K", true),
            ("*-32k", "yi-32k-q4", false),
            ("*code*", "DeepSeek-Coder:6.7b", true),
            ("qwen*coder*", "qwen2.5-coder:7b", true),
            ("qwen*coder*", "coder-qwen", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("ab*ba", "aba", false),
            ("a*a*a", "aa", false),
            ("exact", "Exact", true),
            ("exact", "exactly", false),
            ("a.c", "abc", false),
            ("[ab]?", "[ab]?", true),
            ("*é*", "café", true),
        ];
        for (pattern, name, fits) in table {
            assert_eq!(matches(pattern, name), fits, "{pattern} on {name}");
        }
        assert_eq!(Glob::new(""), None);
        assert_eq!(Glob::new(&"a".repeat(GLOB_BYTES_MAX + 1)), None);
    }

    #[test]
    fn exclusion_wins_and_no_inclusion_is_all() {
        let globs = |list: &[&str]| list.iter().filter_map(|text| Glob::new(text)).collect();
        let table: &[(&[&str], &[&str], &str, bool)] = &[
            (&[], &[], "a", true),
            (&["a*"], &[], "ab", true),
            (&["a*"], &[], "b", false),
            (&["a*"], &["*b"], "ab", false),
            (&[], &["*b"], "ab", false),
            (&[], &["*b"], "ba", true),
        ];
        for (include, exclude, name, passes) in table {
            let filter = Filter {
                include: globs(include),
                exclude: globs(exclude),
            };
            assert_eq!(filter.admits(name), *passes, "{filter:?} on {name}");
        }
    }

    #[test]
    fn patterns_mean_models() {
        let table = [
            ("*llava*", "bakLLaVA:7b", true),
            ("vision*", "vision-7b", true),
            ("vision*", "llama3.2-vision", false),
            ("llama3*", "llama3.2:latest", true),
            ("llama3*", "library/llama3:8b", true),
            ("llama3*", "codellama3", false),
            ("nomic-embed-text", "nomic-embed-text:latest", true),
            ("nomic-embed-text:v1", "nomic-embed-text:latest", false),
            ("*:32k*", "yi:32k-q4", true),
            ("*:32k*", "yi-32k:latest", false),
            ("hf.co/*", "hf.co/org/m:q4", true),
            ("org/*", "m", false),
            ("*-Chat-*", "x-chat-7b", true),
        ];
        for (pattern, model, means) in table {
            let glob = Glob::new(pattern).expect("a pattern");
            assert_eq!(glob.means(model), means, "{pattern} {model}");
        }
    }

    /// The definition, tried in every way there is.
    fn slowly(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*', rest @ ..] => (0..=name.len()).any(|skip| slowly(rest, &name[skip..])),
            [first, rest @ ..] => {
                name.first().is_some_and(|c| c.eq_ignore_ascii_case(first))
                    && slowly(rest, &name[1..])
            }
        }
    }

    proptest! {
        #[test]
        fn it_fits_what_the_definition_fits(pattern in "[abA*]{1,8}", name in "[abB]{0,10}") {
            prop_assert_eq!(matches(&pattern, &name), slowly(pattern.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn a_pattern_prints_as_written(pattern in "[ab*]{1,12}") {
            prop_assert_eq!(Glob::new(&pattern).expect("a pattern").to_string(), pattern);
        }
    }
}

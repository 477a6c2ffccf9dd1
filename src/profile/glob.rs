//! Patterns over model names: `*` stands for any text, `?` for one character, capitals count as small letters.

/// A pattern as a profile writes it, such as `*llava*` or `llama3*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Any text is a pattern; without `*` and `?` it stands for itself.
    pub fn new(pattern: &str) -> Glob {
        Glob(pattern.to_lowercase())
    }

    /// As it was written, in small letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern covers a whole text. Takes at most `pattern × text` steps.
    pub fn covers(&self, text: &str) -> bool {
        let pattern: Vec<char> = self.0.chars().collect();
        let text: Vec<char> = text.to_lowercase().chars().collect();
        let (mut p, mut t) = (0, 0);
        // Where the last `*` stands, and how much of the text it has swallowed so far.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some('*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(c) if *c == '?' || *c == text[t] => (p, t) = (p + 1, t + 1),
                _ => match star {
                    None => return false,
                    Some((at, swallowed)) => {
                        star = Some((at, swallowed + 1));
                        (p, t) = (at + 1, swallowed + 1);
                    }
                },
            }
        }
        pattern[p..].iter().all(|c| *c == '*')
    }

    /// Whether the pattern means a model: the whole name, or the name without what the pattern does not speak of: the
    /// namespace when it holds no `/`, the tag when it holds no `:`.
    pub fn means(&self, model: &str) -> bool {
        let bare = match self.0.contains('/') {
            true => model,
            false => model.rsplit('/').next().unwrap_or(model),
        };
        let untagged = bare.split(':').next().unwrap_or(bare);
        self.covers(model) || self.covers(bare) || (!self.0.contains(':') && self.covers(untagged))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_mean_models() {
        let table: &[(&str, &str, bool)] = &[
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
            ("qwen?", "qwen3:4b", true),
            ("qwen?", "qwen", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
        ];
        for (pattern, model, means) in table {
            assert_eq!(Glob::new(pattern).means(model), *means, "{pattern} {model}");
        }
    }

    proptest! {
        #[test]
        fn text_between_stars_is_found_wherever_it_stands(a in "[a-c]{0,6}", b in "[a-c]{0,6}", c in "[a-c]{0,6}") {
            let inside = Glob::new(&format!("*{b}*"));
            let text = format!("{a}{b}{c}");
            prop_assert!(inside.covers(&text));
            prop_assert_eq!(Glob::new(&b).covers(&text), text == b);
        }
    }
}

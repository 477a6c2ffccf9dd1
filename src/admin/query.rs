//! The query of an admin page.

/// `a=b&c`, as it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a>(pub(super) Option<&'a str>);

impl<'a> Query<'a> {
    /// The first value of that name, its escapes unread; empty when it stands without `=`.
    pub(super) fn value(self, name: &str) -> Option<&'a str> {
        let pairs = self.0.into_iter().flat_map(|query| query.split('&'));
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Whether a switch is on: `name`, `name=true` or `name=1`.
    pub(super) fn is_set(self, name: &str) -> bool {
        matches!(self.value(name), Some("" | "true" | "1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_read_as_people_write_them() {
        let cases = [
            (None, false),
            (Some("a"), true),
            (Some("b=1&a=true"), true),
            (Some("a=1"), true),
            (Some("a=false"), false),
            (Some("aa"), false),
        ];
        for (query, expected) in cases {
            assert_eq!(Query(query).is_set("a"), expected, "{query:?}");
        }
    }
}

//! What an operator may do over HTTP: each is a POST to the admin listener.

/// Something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Read the configuration again.
    Reload,
    /// Take a node out of service, or back in.
    Drain {
        /// As the configuration names it, percent-encoded as it came.
        node: &'a str,
        /// `false`: back in.
        draining: bool,
    },
}

/// The action of a path, whatever the method.
pub fn action(path: &str) -> Option<Action<'_>> {
    if path == "/internal/reload" {
        return Some(Action::Reload);
    }
    let (node, verb) = path.strip_prefix("/internal/nodes/")?.split_once('/')?;
    let draining = match verb {
        "drain" => true,
        "undrain" => false,
        _ => return None,
    };
    (!node.is_empty()).then_some(Action::Drain { node, draining })
}

/// Whether a browser sends this for a page of another site, which must not be able to act: a page can POST anywhere without asking.
pub fn is_foreign(origin: Option<&str>, fetch_site: Option<&str>) -> bool {
    match fetch_site {
        Some(site) => !matches!(site, "same-origin" | "none"),
        // A browser that does not tell the site tells the origin; other clients tell neither.
        None => origin.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_actions_or_not() {
        let drain = |node, draining| Some(Action::Drain { node, draining });
        let cases = [
            ("/internal/reload", Some(Action::Reload)),
            ("/internal/nodes/gpu-1/drain", drain("gpu-1", true)),
            ("/internal/nodes/gpu-1/undrain", drain("gpu-1", false)),
            (
                "/internal/nodes/10.0.0.1:11434/drain",
                drain("10.0.0.1:11434", true),
            ),
            ("/internal/nodes//drain", None),
            ("/internal/nodes/gpu-1", None),
            ("/internal/nodes/gpu-1/kill", None),
            ("/internal/status", None),
        ];
        for (path, expected) in cases {
            assert_eq!(action(path), expected, "{path}");
        }
    }

    #[test]
    fn pages_of_other_sites_may_not_act() {
        let cases = [
            (None, None, false),
            (Some("http://evil.example"), None, true),
            (Some("null"), None, true),
            (Some("http://evil.example"), Some("cross-site"), true),
            (Some("http://127.0.0.1:3000"), Some("same-site"), true),
            (Some("http://127.0.0.1:40115"), Some("same-origin"), false),
            (None, Some("none"), false),
        ];
        for (origin, site, expected) in cases {
            assert_eq!(is_foreign(origin, site), expected, "{origin:?} {site:?}");
        }
    }
}

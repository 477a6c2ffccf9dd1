//! Whose request it is and how urgent: what a request's head claims, from which its turn follows.

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

use crate::config::TenantSource;

/// How urgent a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Somebody waits for the answer.
    Interactive,
    /// Nobody does: its turn comes when nobody interactive waits.
    Background,
}

/// Those who share their turns; it tells no more than whether two requests are of the same tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(pub u64);

/// Whose request it is and how urgent, as far as its client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Whose it is.
    pub tenant: Tenant,
    /// How urgent it is.
    pub class: Class,
}

/// What a request's head and connection say of that; each is empty or `None` where they do not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told<'a> {
    /// `X-OpenWebUI-User-Id`.
    pub user: &'a [u8],
    /// `Authorization`, or else `x-api-key`.
    pub key: &'a [u8],
    /// The address at the other end of the connection.
    pub peer: Option<IpAddr>,
    /// `X-Task`, for which Open WebUI's operators write `{{TASK}}`.
    pub task: &'a [u8],
    /// `X-Arriero-Priority`.
    pub priority: &'a [u8],
}

/// Tasks of Open WebUI that no answer waits for; for search queries and function calls one does, and for a completion as you type
/// somebody.
const BACKGROUND_TASKS: &[&str] = &[
    "title_generation",
    "tags_generation",
    "follow_up_generation",
    "emoji_generation",
];

impl Claim {
    /// Believes the head: a client may take another's name, which is why the operator chooses the sources, but a word can only lower
    /// its urgency.
    pub fn new(told: &Told<'_>, sources: &[TenantSource]) -> Claim {
        let is = |said: &[u8], word: &str| said.trim_ascii().eq_ignore_ascii_case(word.as_bytes());
        let is_task = BACKGROUND_TASKS.iter().any(|task| is(told.task, task));
        let class = match is_task || is(told.priority, "background") {
            true => Class::Background,
            false => Class::Interactive,
        };
        let mut tenants = sources.iter().filter_map(|source| told.tenant(*source));
        Claim {
            tenant: tenants.next().unwrap_or(Tenant::ANYBODY),
            class,
        }
    }
}

impl Told<'_> {
    fn tenant(&self, source: TenantSource) -> Option<Tenant> {
        let named = |said: &[u8]| {
            let name = said.trim_ascii();
            (!name.is_empty()).then(|| Tenant::of(source, name))
        };
        match source {
            TenantSource::UserHeader => named(self.user),
            TenantSource::AuthHeader => named(bare(self.key)),
            TenantSource::Ip => Some(match self.peer?.to_canonical() {
                IpAddr::V4(address) => Tenant::of(source, &address.octets()),
                // Whoever has one address of IPv6 has the other 2^64 of its network too.
                IpAddr::V6(address) => Tenant::of(source, &address.octets()[..8]),
            }),
        }
    }
}

/// A key without the word `Bearer`: libraries of other dialects send the same one without.
fn bare(key: &[u8]) -> &[u8] {
    const BEARER: &[u8] = b"bearer ";
    let key = key.trim_ascii_start();
    match key.split_at_checked(BEARER.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(BEARER) => rest,
        _ => key,
    }
}

impl Tenant {
    /// Everybody of whom nothing is known.
    pub const ANYBODY: Tenant = Tenant(0);

    /// The sources are kept apart, so that nobody's user id passes for another's key. A strong hash, since who could make it come out
    /// as another's would use up that one's turns.
    fn of(source: TenantSource, name: &[u8]) -> Tenant {
        let hash = Sha256::new()
            .chain_update(source.word())
            .chain_update([0])
            .chain_update(name)
            .finalize();
        let start = hash.iter().take(8);
        Tenant(start.fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::TenantSource::{AuthHeader, Ip, UserHeader};
    use super::*;

    const ALL: &[TenantSource] = &[UserHeader, AuthHeader, Ip];

    /// A head in which `user`, `key` and `peer` are said; `-` is not.
    fn tenant(head: &str, sources: &[TenantSource]) -> Tenant {
        let said: Vec<&str> = head.split('|').map(|word| word.trim()).collect();
        let bytes = |at: usize| match said[at] {
            "-" => &b""[..],
            word => word.as_bytes(),
        };
        let told = Told {
            user: bytes(0),
            key: bytes(1),
            peer: said[2].parse().ok(),
            ..Told::default()
        };
        Claim::new(&told, sources).tenant
    }

    #[test]
    fn a_tenant_is_the_first_source_that_the_request_has() {
        for (one, other, sources, are_same) in [
            ("ann|k|10.0.0.1", "ann|other|10.0.0.2", ALL, true),
            ("ann|k|10.0.0.1", "bob|k|10.0.0.1", ALL, false),
            ("-|k|10.0.0.1", "-|k|10.0.0.2", ALL, true),
            ("-|k|10.0.0.1", "-|K|10.0.0.1", ALL, false),
            ("-|-|10.0.0.1", "-|-|10.0.0.1", ALL, true),
            ("-|-|10.0.0.1", "-|-|10.0.0.2", ALL, false),
            // The same key in both ways of sending one.
            ("-|Bearer k|-", "-|k|-", ALL, true),
            ("-|bearer  k|-", "-|k|-", ALL, true),
            ("-|Basic k|-", "-|k|-", ALL, false),
            ("-|Bearer|10.0.0.1", "-|-|10.0.0.1", ALL, false),
            // A name of one kind is none of another.
            ("k|-|-", "-|k|-", ALL, false),
            // The operator's order, and nothing beside it.
            (
                "ann|k|10.0.0.1",
                "bob|k|10.0.0.2",
                &[AuthHeader, UserHeader],
                true,
            ),
            ("ann|k|10.0.0.1", "ann|k|10.0.0.2", &[Ip], false),
            ("ann|k|10.0.0.1", "bob|j|10.0.0.2", &[], true),
            ("ann|-|-", "bob|-|-", &[AuthHeader, Ip], true),
            // A network of IPv6 is one tenant, and an IPv4 address the same in both notations.
            ("-|-|2001:db8::1", "-|-|2001:db8::ffff:1", ALL, true),
            ("-|-|2001:db8::1", "-|-|2001:db8:0:1::1", ALL, false),
            ("-|-|::ffff:10.0.0.1", "-|-|10.0.0.1", ALL, true),
            ("-|-|::ffff:10.0.0.1", "-|-|::ffff:10.0.0.2", ALL, false),
        ] {
            let (left, right) = (tenant(one, sources), tenant(other, sources));
            assert_eq!(left == right, are_same, "{one} and {other}");
        }
        assert_eq!(tenant("-|-|-", ALL), Tenant::ANYBODY);
    }

    #[test]
    fn only_known_words_make_a_request_background() {
        for (task, priority, expected) in [
            ("", "", Class::Interactive),
            ("title_generation", "", Class::Background),
            ("tags_generation", "", Class::Background),
            ("follow_up_generation", "", Class::Background),
            (" Emoji_Generation ", "", Class::Background),
            // Something waits for these.
            ("query_generation", "", Class::Interactive),
            ("function_calling", "", Class::Interactive),
            ("autocomplete_generation", "", Class::Interactive),
            ("image_prompt_generation", "", Class::Interactive),
            ("moa_response_generation", "", Class::Interactive),
            ("{{TASK}}", "", Class::Interactive),
            ("title_generation, x", "", Class::Interactive),
            ("", "background", Class::Background),
            ("", "Background", Class::Background),
            ("", "low", Class::Interactive),
            ("", "\u{7f}\u{0}", Class::Interactive),
            // No word raises.
            ("title_generation", "interactive", Class::Background),
        ] {
            let told = Told {
                task: task.as_bytes(),
                priority: priority.as_bytes(),
                ..Told::default()
            };
            assert_eq!(
                Claim::new(&told, ALL).class,
                expected,
                "{task:?} {priority:?}"
            );
        }
    }
}

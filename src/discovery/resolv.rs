//! What a system's own files say about names: `/etc/resolv.conf` and `/etc/hosts`, as resolv.conf(5) and hosts(5) tell it.

use std::net::IpAddr;
use std::time::Duration;

/// Name servers that are asked; resolvers have never asked more.
const SERVERS_MAX: usize = 3;
/// Search domains that are tried.
const SEARCH_MAX: usize = 32;
const NDOTS_MAX: usize = 15;

/// The part of resolv.conf that decides what is asked, and whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolv {
    /// At most three, in the order of the file.
    pub servers: Vec<IpAddr>,
    /// Domains without a leading or trailing dot.
    pub search: Vec<String>,
    /// A name with fewer dots is tried with the search domains first.
    pub ndots: usize,
    /// How long one server is waited for.
    pub timeout: Duration,
    /// How often a question is repeated.
    pub attempts: usize,
}

impl Resolv {
    /// Reads the text of a resolv.conf. What is not understood is skipped, as every resolver does.
    pub fn parse(text: &str) -> Resolv {
        let mut found = Resolv {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") if found.servers.len() < SERVERS_MAX => {
                    found
                        .servers
                        .extend(words.next().and_then(|it| it.parse::<IpAddr>().ok()));
                }
                // The last of these lines counts.
                Some("search" | "domain") => {
                    let domains = words.map(|it| it.trim_matches('.').to_owned());
                    found.search = domains
                        .filter(|it| !it.is_empty())
                        .take(SEARCH_MAX)
                        .collect();
                }
                Some("options") => words.for_each(|option| found.take_option(option)),
                _ => (),
            }
        }
        found
    }

    fn take_option(&mut self, option: &str) {
        let Some((key, Ok(value))) = option.split_once(':').map(|(k, v)| (k, v.parse::<usize>()))
        else {
            return;
        };
        match key {
            "ndots" => self.ndots = value.min(NDOTS_MAX),
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 30) as u64),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => (),
        }
    }

    /// The absolute names that `asked` may stand for, in the order in which they are tried. A trailing dot makes a name
    /// absolute.
    pub fn candidates(&self, asked: &str) -> Vec<String> {
        if asked.ends_with('.') {
            return vec![asked.to_owned()];
        }
        let searched = self
            .search
            .iter()
            .map(|domain| format!("{asked}.{domain}."));
        let mut names: Vec<String> = searched.collect();
        let dots = asked.bytes().filter(|byte| *byte == b'.').count();
        let place = if self.ndots <= dots { 0 } else { names.len() };
        names.insert(place, format!("{asked}."));
        names
    }
}

/// The addresses of `name` in the text of a hosts file.
pub fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let addr = words.next()?.parse().ok()?;
        words
            .any(|word| word.eq_ignore_ascii_case(name))
            .then_some(addr)
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_file_of_a_kubernetes_pod_is_understood() {
        let found = Resolv::parse(
            "search default.svc.cluster.local svc.cluster.local. cluster.local\n\
             # nameserver 10.9.9.9\n; nameserver 10.9.9.8\n\
             nameserver 10.96.0.10\nnameserver fd00::a\nnameserver nonsense\nnameserver\n\
             nameserver 10.96.0.11\nnameserver 10.96.0.12\n\
             options ndots:5 timeout:2 attempts:3 edns0 ndots: rotate\n",
        );
        let servers = ["10.96.0.10", "fd00::a", "10.96.0.11"];
        assert_eq!(
            found.servers,
            servers.map(|it| it.parse::<IpAddr>().unwrap())
        );
        assert_eq!(
            found.search,
            [
                "default.svc.cluster.local",
                "svc.cluster.local",
                "cluster.local"
            ]
        );
        assert_eq!((found.ndots, found.attempts), (5, 3));
        assert_eq!(found.timeout, Duration::from_secs(2));
    }

    #[test]
    fn the_last_search_or_domain_counts_and_absurd_options_are_bounded() {
        let found =
            Resolv::parse("search a b\ndomain lan\noptions ndots:99 timeout:0 attempts:1000");
        assert_eq!(found.search, ["lan"]);
        assert_eq!((found.ndots, found.attempts), (NDOTS_MAX, 5));
        assert_eq!(found.timeout, Duration::from_secs(1));
        let roots = Resolv::parse("search .");
        assert_eq!(roots.candidates("herd"), ["herd."]);
    }

    #[test]
    fn dots_decide_what_is_tried_first() {
        let cases = [
            (1, "herd", "herd.ns.svc. herd.svc. herd."),
            (
                1,
                "herd.test",
                "herd.test. herd.test.ns.svc. herd.test.svc.",
            ),
            (
                5,
                "herd.test",
                "herd.test.ns.svc. herd.test.svc. herd.test.",
            ),
            (5, "herd.test.", "herd.test."),
        ];
        for (ndots, asked, expected) in cases {
            let file = Resolv::parse(&format!("search ns.svc svc\noptions ndots:{ndots}"));
            assert_eq!(file.candidates(asked).join(" "), expected);
        }
    }

    #[test]
    fn a_hosts_file_gives_every_address_of_a_name() {
        let text = "127.0.0.1 localhost\n10.0.0.1\therd.test gpu # 10.0.0.9 herd.test\n#10.0.0.8 herd.test\n\
                    nonsense herd.test\n10.0.0.7\nfd00::1 HERD.test\n10.0.0.3 other.herd.test";
        let expected = ["10.0.0.1", "fd00::1"].map(|it| it.parse::<IpAddr>().unwrap());
        for name in ["herd.test", "Herd.Test", "herd.test."] {
            assert_eq!(in_hosts(text, name), expected, "{name}");
        }
        assert_eq!(in_hosts(text, "gpu"), expected[..1]);
        assert!(in_hosts(text, "test").is_empty());
        assert!(in_hosts(text, "").is_empty());
    }

    proptest! {
        #[test]
        fn any_text_gives_bounded_settings(
            text in "(nameserver|search|domain|options|#|10\\.0\\.0\\.1|::1|ndots:[0-9]{1,25}|a\\.b| |\n|\\PC){0,60}"
        ) {
            let found = Resolv::parse(&text);
            prop_assert!(found.servers.len() <= SERVERS_MAX && found.ndots <= NDOTS_MAX);
            let names = found.candidates("herd");
            prop_assert_eq!(names.iter().filter(|it| *it == "herd.").count(), 1);
            prop_assert!(names.len() <= SEARCH_MAX + 1 && names.iter().all(|it| it.ends_with('.')));
        }
    }
}

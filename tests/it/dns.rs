//! DNS lookups for discovery, against a name server that misbehaves on cue.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arriero::discovery::{Answer, Family, MEMBERS_MAX, members};
use arriero::gateway::dns::Dns;

use crate::support::dns::{Manner, NameServer, REFUSED, SERVFAIL};
use crate::support::within;

/// Longer than any answer takes here; a lookup that needs all of it fails its test by what it says.
const LIMIT: Duration = Duration::from_secs(5);
/// For servers that never answer.
const BRIEF: Duration = Duration::from_millis(1500);

fn ips(list: &str) -> Vec<IpAddr> {
    let words = list.split_whitespace();
    words.map(|text| text.parse().expect("an IP")).collect()
}

async fn look_up(server: &NameServer, name: &str, limit: Duration) -> Result<Answer, String> {
    let dns = Dns::default();
    within("a lookup", dns.lookup(name, Some(server.addr), limit)).await
}

/// The addresses, sorted, of an answer that lacks nothing.
async fn resolve(server: &NameServer, name: &str) -> Vec<IpAddr> {
    let answer = look_up(server, name, LIMIT).await.expect("an answer");
    assert_eq!(answer.missing, None);
    members(answer.addrs).addrs
}

#[tokio::test]
async fn every_record_of_both_families_is_found_and_each_lookup_asks_anew() {
    let server = NameServer::start().await;
    for addrs in [
        "10.0.0.1",
        "10.0.0.1 10.0.0.2",
        "fd00::1 fd00::2",
        "10.0.0.2 fd00::2",
    ] {
        server.set("herd.test", &ips(addrs));
        assert_eq!(resolve(&server, "herd.test").await, ips(addrs));
    }
    assert_eq!(
        resolve(&server, "HERD.test.").await,
        ips("10.0.0.2 fd00::2")
    );
}

#[tokio::test]
async fn an_answer_too_long_for_udp_comes_over_tcp_whole() {
    let server = NameServer::start().await;
    let many: Vec<IpAddr> = (0..500_u16)
        .map(|n| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]))
        .collect();
    server.set("herd.test", &many);
    let answer = look_up(&server, "herd.test", LIMIT)
        .await
        .expect("an answer");
    assert_eq!(answer.addrs.len(), 500);
    let found = members(answer.addrs);
    assert_eq!(
        (found.addrs.len(), found.left_out),
        (MEMBERS_MAX, 500 - MEMBERS_MAX)
    );
    let asked = server.asked();
    for question in ["udp A herd.test", "tcp A herd.test"] {
        assert!(asked.iter().any(|it| it == question), "{asked:?}");
    }
}

#[tokio::test]
async fn a_failed_lookup_says_what_happened_and_who_said_so() {
    let server = NameServer::start().await;
    server.set("empty.test", &[]);
    server.set("herd.test", &ips("10.0.0.1"));
    let at = server.addr;
    let malformed = format!("what came from {at} is not a DNS answer that makes sense");
    let cases = [
        (Manner::Honest, "absent.test", format!("NXDOMAIN from {at}")),
        (
            Manner::Honest,
            "empty.test",
            format!("no A or AAAA records at {at}"),
        ),
        (
            Manner::Code(SERVFAIL),
            "herd.test",
            format!("SERVFAIL from {at}"),
        ),
        (
            Manner::Code(REFUSED),
            "herd.test",
            format!("REFUSED from {at}"),
        ),
        (Manner::Garbage, "herd.test", malformed),
        (
            Manner::Circular,
            "herd.test",
            format!("no A or AAAA records at {at}"),
        ),
        (
            Manner::Silent,
            "herd.test",
            format!("no answer from {at} within {BRIEF:?}"),
        ),
    ];
    for (manner, name, why) in cases {
        server.behave(manner);
        let limit = if manner == Manner::Silent {
            BRIEF
        } else {
            LIMIT
        };
        let said = look_up(&server, name, limit).await.expect_err("no answer");
        assert_eq!(
            said,
            format!("`{name}` does not resolve: {why}"),
            "{manner:?}"
        );
    }
    let long = "a".repeat(64);
    for name in ["", ".", "herd..test", long.as_str()] {
        let said = look_up(&server, name, LIMIT).await.expect_err("no name");
        assert_eq!(said, format!("`{name}` is not a name that DNS could know"));
    }
}

#[tokio::test]
async fn a_forged_answer_is_not_believed() {
    let server = NameServer::start().await;
    server.set("herd.test", &ips("10.0.0.1 fd00::1"));
    server.behave(Manner::Forged);
    assert_eq!(resolve(&server, "herd.test").await, ips("10.0.0.1 fd00::1"));
}

#[tokio::test]
async fn a_family_without_an_answer_is_missing_and_the_other_one_serves() {
    let server = NameServer::start().await;
    server.set("herd.test", &ips("10.0.0.1 fd00::1"));
    let at = server.addr;
    let silence = format!("no answer from {at} within {BRIEF:?}");
    server.behave_for_aaaa(Manner::Silent);
    let answer = look_up(&server, "herd.test", BRIEF).await.expect("half");
    let missing = answer.missing.expect("AAAA is missing");
    assert_eq!(answer.addrs, ips("10.0.0.1"));
    assert_eq!((missing.family, missing.why), (Family::V6, silence));

    server.behave_for_aaaa(Manner::Honest);
    server.behave_for_a(Manner::Code(SERVFAIL));
    let answer = look_up(&server, "herd.test", LIMIT).await.expect("half");
    let missing = answer.missing.expect("A is missing");
    assert_eq!(answer.addrs, ips("fd00::1"));
    let said = format!("SERVFAIL from {at}");
    assert_eq!((missing.family, missing.why), (Family::V4, said));
}

/// A folder of its own with a resolv.conf and a hosts file, removed at the end.
struct System(PathBuf);

impl System {
    fn new(test: &str, resolv_conf: &str, hosts: &str) -> System {
        let dir = std::env::temp_dir().join(format!("arriero-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        std::fs::write(dir.join("resolv.conf"), resolv_conf).expect("resolv.conf");
        std::fs::write(dir.join("hosts"), hosts).expect("hosts");
        System(dir)
    }

    fn dns(&self, server: &NameServer) -> Dns {
        Dns::of_system(
            self.file("resolv.conf"),
            self.file("hosts"),
            server.addr.port(),
        )
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(&self.0).join(name)
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn the_systems_search_domains_are_tried_name_by_name() {
    let server = NameServer::start().await;
    let resolv_conf = "nameserver 127.0.0.1\nsearch ns.svc corp.test\noptions ndots:2\n";
    let system = System::new("search", resolv_conf, "");
    let dns = system.dns(&server);
    server.set("herd.ns.svc", &ips("10.0.0.1"));
    // A wildcard further down the list must not mix its nodes in.
    server.set("herd.corp.test", &ips("10.9.9.9 fd00::9"));
    server.set("gpu.test", &ips("10.0.0.2"));

    let answer = within("a lookup", dns.lookup("herd", None, LIMIT)).await;
    assert_eq!(answer.expect("an answer").addrs, ips("10.0.0.1"));
    let answer = within("a lookup", dns.lookup("gpu.test", None, LIMIT)).await;
    assert_eq!(answer.expect("an answer").addrs, ips("10.0.0.2"));
    let tried: Vec<String> = server
        .asked()
        .iter()
        .filter_map(|it| it.strip_prefix("udp A ").map(str::to_owned))
        .collect();
    let expected = [
        "herd.ns.svc",
        "gpu.test.ns.svc",
        "gpu.test.corp.test",
        "gpu.test",
    ];
    assert_eq!(tried, expected);
}

#[tokio::test]
async fn a_dead_server_among_the_systems_does_not_matter() {
    let server = NameServer::start().await;
    server.set("herd.test", &ips("10.0.0.1 fd00::1"));
    // Nobody listens at the second address.
    for order in ["127.0.0.1 127.0.0.2", "127.0.0.2 127.0.0.1"] {
        let lines = order
            .split_whitespace()
            .map(|ip| format!("nameserver {ip}\n"));
        let system = System::new("dead", &lines.collect::<String>(), "");
        let dns = system.dns(&server);
        let answer = within("a lookup", dns.lookup("herd.test.", None, LIMIT)).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.missing, None);
        assert_eq!(members(answer.addrs).addrs, ips("10.0.0.1 fd00::1"));
    }
}

#[tokio::test]
async fn the_hosts_file_comes_before_the_servers() {
    let server = NameServer::start().await;
    server.set("herd.test", &ips("10.0.0.1"));
    let system = System::new(
        "hosts",
        "nameserver 127.0.0.1\nsearch corp.test\n",
        "10.0.0.7 herd.test herd\nfd00::7 herd.test\n",
    );
    let dns = system.dns(&server);
    for (name, expected) in [("herd.test", "10.0.0.7 fd00::7"), ("herd", "10.0.0.7")] {
        let answer = within("a lookup", dns.lookup(name, None, LIMIT)).await;
        assert_eq!(answer.expect("an answer").addrs, ips(expected));
    }
    assert_eq!(server.asked(), [""; 0]);
    // A change of the file counts at the next lookup.
    std::fs::remove_file(system.file("hosts")).expect("removed");
    let answer = within("a lookup", dns.lookup("herd.test", None, LIMIT)).await;
    assert_eq!(answer.expect("an answer").addrs, ips("10.0.0.1"));
}

#[tokio::test]
async fn a_system_without_name_servers_is_told_of_and_not_a_panic() {
    let server = NameServer::start().await;
    let system = System::new("none", "# nothing\n", "");
    let file = system.file("resolv.conf");
    let file = file.display();
    let hint = "set `server:` beside the name in `discovery.dns`";
    let dns = system.dns(&server);
    for (why, remove) in [
        (format!("{file} names no name server"), false),
        (
            format!("{file}: No such file or directory (os error 2)"),
            true,
        ),
    ] {
        if remove {
            std::fs::remove_file(system.file("resolv.conf")).expect("removed");
        }
        let said = dns
            .lookup("herd.test", None, LIMIT)
            .await
            .expect_err("none");
        assert_eq!(
            said,
            format!("`herd.test` can't be looked up: {why}; {hint}")
        );
    }
}

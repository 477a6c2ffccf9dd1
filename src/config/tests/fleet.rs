//! Nodes by name, what they offer, how their models become one catalogue: what the keys mean once they were read.

use std::net::IpAddr;

use super::*;
use crate::model::ModelKey;

#[test]
fn names_are_sources_of_nodes() {
    let text = "
discovery:
  type: dns
  dns:
    - { name: Herd.Example.org, slots: 2, headers: { X-A: b }, tags: [gpu], model_filter: { exclude: ['*embed*'] } }
    - { name: vllm.example.org., port: 8000, type: vllm, scheme: https, interval: 1s, server: '10.0.0.2:8600' }
    - { name: odd.example.org, port: 8080, type: lemonade, scheme: https, server: 'fd00::2', tls: { server_name: gpu } }
";
    let config = World::default().load(text).unwrap();
    assert!(config.nodes.is_empty());
    let shown: Vec<String> = config
        .dns
        .iter()
        .map(|source| {
            let server = source.server.map(|server| server.to_string());
            let node = source.node("fd00::1".parse::<IpAddr>().unwrap());
            format!(
                "{} every {}s from {}: {} at {} as {}",
                source.name,
                source.interval.as_secs(),
                server.as_deref().unwrap_or("system"),
                node.name,
                node.url,
                node.tls.server_name.as_deref().unwrap_or("-")
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "herd.example.org every 5s from system: [fd00::1]:11434 at http://[fd00::1]:11434 as -",
            "vllm.example.org. every 1s from 10.0.0.2:8600: [fd00::1]:8000 at https://[fd00::1]:8000 as vllm.example.org",
            "odd.example.org every 5s from [fd00::2]:53: [fd00::1]:8080 at https://[fd00::1]:8080 as gpu",
        ]
    );
    let node = config.dns[0].node("10.0.0.7".parse::<IpAddr>().unwrap());
    assert_eq!(
        (node.name.as_str(), node.slots),
        ("10.0.0.7:11434", Some(2))
    );
    assert_eq!((node.tags, node.headers.len()), (vec!["gpu".to_owned()], 1));
    assert!(!node.model_filter.admits("nomic-embed-text"));
}

#[test]
fn nodes_by_address_and_by_name_add_up() {
    let dns = "dns: [{ name: herd.example.org }]";
    let listed = "static: { endpoints: [{ url: 'http://a:1' }] }";
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let table: &[(&str, &str, Pairs, &[&str], usize)] = &[
        ("both", listed, &[], &["http://a:1"], 1),
        ("both", "static: { endpoints: [] }", &[], &[], 1),
        ("both", "static:", &[], &[], 1),
        (
            "both",
            "static:",
            &[("OLLAMA_BASE_URL", "http://b:1")],
            &["http://b:1"],
            1,
        ),
        (
            "dns",
            "static:",
            &[("OLLAMA_BASE_URL", "http://b:1")],
            &[],
            1,
        ),
        ("dns", "static: { endpoints: [] }", &[], &[], 1),
    ];
    for (kind, fixed, env, urls, names) in table {
        let text = format!("discovery:\n  type: {kind}\n  {dns}\n  {fixed}\n");
        let config = World::with_env(env).load(&text).unwrap();
        let got: Vec<String> = config
            .nodes
            .iter()
            .map(|node| node.url.to_string())
            .collect();
        assert_eq!(
            (
                got.iter().map(String::as_str).collect::<Vec<_>>(),
                config.dns.len()
            ),
            (urls.to_vec(), *names),
            "{text}"
        );
    }
}

#[test]
fn endpoints_may_stand_at_the_top() {
    let short = "endpoints:\n  - { url: 'http://a:1', priority: 7 }\n";
    let long =
        "discovery:\n  static:\n    endpoints:\n      - { url: 'http://a:1', priority: 7 }\n";
    let load = |text| format!("{:?}", World::default().load(text).unwrap());
    assert_eq!(load(short), load(long));
}

#[test]
fn a_node_offers_what_its_keys_say() {
    let text = "
discovery:
  static:
    endpoints:
      - url: http://a:1/llm
        model_filter: { include: [llama3*, '*CODE*'], exclude: ['*:70b'] }
        model_ids: ['llama3:8b', hf.co/user/repo:Q4_K_M]
        prefix_id: gpu-1.left
        tags: [gpu, { name: fast one }]
        connection_type: external
        preserve_path: false
      - url: http://b:1/llm
      - { url: 'http://c:1/llm', type: lemonade, preserve_path: false }
      - { url: 'http://d:1', type: lemonade }
";
    let config = World::default().load(text).unwrap();
    let node = &config.nodes[0];
    let admitted = ["llama3:8b", "Llama3:70B", "deepseek-coder", "qwen3"]
        .map(|name| node.model_filter.admits(name));
    assert_eq!(admitted, [true, false, true, false]);
    assert_eq!(node.model_ids, ["llama3:8b", "hf.co/user/repo:Q4_K_M"]);
    assert_eq!(node.prefix_id.as_deref(), Some("gpu-1.left"));
    assert_eq!(node.tags, ["gpu", "fast one"]);
    assert_eq!(node.connection, Connection::External);
    let prefixes: Vec<&str> = config.nodes.iter().map(NodeConfig::call_prefix).collect();
    assert_eq!(prefixes, ["", "/llm", "", ""]);
    assert!(
        config
            .nodes
            .iter()
            .take(3)
            .all(|node| node.url.base_path == "/llm")
    );
}

#[test]
fn a_client_certificate_is_read_whole() {
    let mut world = World::default();
    let cert = b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".to_vec();
    let key = b"-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n-----END EC PRIVATE KEY-----\n".to_vec();
    world.files.insert("/run/cert".to_owned(), cert.clone());
    world.files.insert("/run/key".to_owned(), key.clone());
    let load = |cert: &str, key: &str| {
        let node = format!("{{ url: 'https://a', tls: {{ cert: {cert}, key: {key} }} }}");
        world.load(&format!("endpoints: [{node}]\n"))
    };
    let config = load("/run/cert", "/run/key").unwrap();
    let client = config.nodes[0].tls.client.as_ref().unwrap();
    assert_eq!((&client.cert_pem, client.key_pem.reveal()), (&cert, &key));
    let shown = format!("{} {config:?}", describe(&config));
    assert!(shown.contains("shows a certificate") && !shown.contains("c2VjcmV0"));
    for (cert, key, told) in [
        ("/run/key", "/run/key", "holds no PEM certificate"),
        ("/run/cert", "/run/cert", "holds no PEM private key"),
        ("/run/cert", "/run/none", "cannot read `/run/none`"),
    ] {
        let error = load(cert, key).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn the_catalogue_and_its_strategy() {
    let config = World::default().load_nothing().unwrap();
    let standard = Registry {
        unify: true,
        stale_threshold: Duration::from_secs(24 * 3600),
        strategy: Strategy::Strict,
        fallback: Fallback::CompatibleOnly,
        refresh_timeout: Duration::from_secs(2),
        refresh_on_miss: true,
    };
    assert_eq!(config.registry, standard);
    assert_eq!(config.health.ejected_percent_max, 50);
    for (text, unify) in [
        ("{ enable_unifier: false }", false),
        ("{ unification: { enabled: false } }", false),
        (
            "{ type: memory, enable_unifier: true, unification: { enabled: true } }",
            true,
        ),
    ] {
        let config = World::default()
            .load(&format!("model_registry: {text}"))
            .unwrap();
        assert_eq!(config.registry, Registry { unify, ..standard }, "{text}");
    }
    let text = "
model_registry:
  unification: { stale_threshold: 1h }
  routing_strategy:
    type: optimistic
    options: { fallback_behavior: none, discovery_timeout: 500ms, discovery_refresh_on_miss: false }
";
    let written = Registry {
        unify: true,
        stale_threshold: Duration::from_secs(3600),
        strategy: Strategy::Optimistic,
        fallback: Fallback::None,
        refresh_timeout: Duration::from_millis(500),
        refresh_on_miss: false,
    };
    assert_eq!(World::default().load(text).unwrap().registry, written);
}

#[test]
fn aliases_keep_their_spelling_and_are_found_by_key() {
    let world = World::with_env(&[("BIG", "llama3:405b")]);
    let text = "model_aliases: { GPT-OSS-120b: ['gpt-oss:120b', gpt-oss-120b-MLX], 'llama3': [llama3, '${BIG}'] }\n";
    let config = world.load(text).unwrap();
    let shown: Vec<String> = config
        .aliases
        .iter()
        .map(|alias| format!("{} {} {:?}", alias.name, alias.key.as_str(), alias.targets))
        .collect();
    assert_eq!(
        shown,
        [
            "GPT-OSS-120b gpt-oss-120b:latest [\"gpt-oss:120b\", \"gpt-oss-120b-MLX\"]",
            "llama3 llama3:latest [\"llama3\", \"llama3:405b\"]",
        ]
    );
    assert_eq!(
        config.aliases[1].key,
        ModelKey::parse("LLAMA3:latest").unwrap()
    );
    let many = |aliases: usize, targets: usize| {
        let list = vec!["a"; targets].join(", ");
        let lines: String = (0..aliases)
            .map(|at| format!("  a{at}: [{list}]\n"))
            .collect();
        World::default().load(&format!("model_aliases:\n{lines}"))
    };
    assert_eq!(many(1000, 1).unwrap().aliases.len(), 1000);
    assert!(many(1001, 1).unwrap_err().contains("at most 1000"));
    assert_eq!(many(1, 64).unwrap().aliases[0].targets.len(), 64);
    assert!(many(1, 65).unwrap_err().contains("more than 64"));
}

#[test]
fn management_has_a_target_and_hosts() {
    let load = |text: &str| {
        World::default().load(&format!(
            "{text}\nendpoints: [{{ url: 'http://a:1', name: gpu }}]\n"
        ))
    };
    let plain = load("").unwrap().management;
    assert_eq!(
        (
            plain.enabled,
            plain.default_target,
            plain.download_hosts.len()
        ),
        (false, DefaultTarget::All, 2)
    );
    let text = "management: { enabled: true, default_target: gpu, download_hosts: ['HTTPS://Files.Example.org:8443/Models/'] }";
    let written = load(text).unwrap().management;
    assert_eq!(
        written.default_target,
        DefaultTarget::Node("gpu".to_owned())
    );
    assert_eq!(
        written.download_hosts,
        ["https://files.example.org:8443/Models/"]
    );
    let first = load("management: { default_target: first, download_hosts: [] }").unwrap();
    assert_eq!(first.management.default_target, DefaultTarget::First);
    assert!(first.management.download_hosts.is_empty());
    // A node found by name may have any.
    let text = "management: { default_target: '10.0.0.7:11434' }\ndiscovery: { type: dns, dns: [{ name: herd.example.org }] }";
    let config = World::default().load(text).unwrap();
    assert_eq!(
        config.management.default_target,
        DefaultTarget::Node("10.0.0.7:11434".to_owned())
    );
}

#[test]
fn the_directory_for_temporary_files() {
    let dir = |text: &str| World::default().load(text).unwrap().state_dir;
    assert_eq!(dir(""), None);
    assert_eq!(dir("state_dir: ''"), None);
    assert_eq!(
        dir("state_dir: /var/lib/arriero"),
        Some("/var/lib/arriero".into())
    );
}

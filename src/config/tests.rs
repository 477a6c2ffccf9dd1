//! The configuration as its users meet it: files that load, mistakes that are told, variables that override.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;

mod extraction;
mod files;
mod fleet;
mod import;
mod profiles;
mod properties;
mod schema;

/// Environment and key files of one case.
#[derive(Default)]
struct World {
    env: BTreeMap<String, String>,
    files: BTreeMap<String, Vec<u8>>,
}

impl World {
    fn with_env(pairs: &[(&str, &str)]) -> World {
        let env = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        World {
            env,
            files: BTreeMap::new(),
        }
    }

    fn sources<T>(&self, file: Option<(&str, &str)>, use_it: impl FnOnce(&Sources) -> T) -> T {
        use_it(&Sources {
            file,
            env: &|name| self.env.get(name).cloned(),
            env_names: self.env.keys().cloned().collect(),
            read_file: &|path| {
                self.files
                    .get(path)
                    .cloned()
                    .ok_or_else(|| "No such file or directory".to_owned())
            },
            list_dir: &|path| {
                let dir = format!("{path}/");
                let names = self.files.keys().filter_map(|file| file.strip_prefix(&dir));
                match names.clone().next() {
                    Some(_) => Ok(names.map(str::to_owned).collect()),
                    None => Err("No such file or directory".to_owned()),
                }
            },
            cores: 6,
            terminal: false,
        })
    }

    fn load(&self, text: &str) -> Result<Config, String> {
        self.sources(Some(("arriero.yaml", text)), |sources| {
            load(sources).map_err(|error| error.to_string())
        })
    }

    fn load_nothing(&self) -> Result<Config, String> {
        self.sources(None, |sources| {
            load(sources).map_err(|error| error.to_string())
        })
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn conf(name: &str) -> String {
    fs::read_to_string(root().join("conf").join(name)).unwrap()
}

#[test]
fn the_environment_comes_before_the_file() {
    let world = World::with_env(&[
        ("ARRIERO_CONFIG", "elsewhere.yaml"),
        ("ARRIERO_SERVER_PORT", "8080"),
        ("ARRIERO_SERVER_REQUEST_LIMITS_MAX_BODY_SIZE", "1GiB"),
        ("ARRIERO_PROXY_RETRY_MAX_ATTEMPTS", "5"),
        ("ARRIERO_ADMIN_KEY", "s3cret"),
        ("ARRIERO_LOGGING_LEVEL", "debug"),
        ("HOME", "/root"),
    ]);
    let config = world
        .load("server: { port: 1, threads: 2 }\nproxy:\n  retry: { max_attempts: 9 }\n")
        .unwrap();
    assert_eq!((config.server.port, config.server.threads), (8080, 2));
    assert_eq!(config.server.body_bytes_max, 1 << 30);
    assert_eq!(config.proxy.retry.attempts_max, 5);
    assert_eq!(
        config.admin.key.as_ref().map(|key| key.reveal().as_str()),
        Some("s3cret")
    );
    assert_eq!(config.logging.level, log::LevelFilter::Debug);
}

#[test]
fn tenants_are_told_apart_by_what_is_listed_in_that_order() {
    use TenantSource::{AuthHeader, Ip, UserHeader};
    for (written, expected) in [
        ("{}", &[UserHeader, AuthHeader, Ip][..]),
        ("{ tenant_sources: [ip, user_header] }", &[Ip, UserHeader]),
        ("{ tenant_sources: [] }", &[]),
    ] {
        let text = format!("proxy: {{ queue: {written} }}");
        let config = World::default().load(&text).unwrap();
        assert_eq!(config.proxy.queue.tenant_sources, expected, "{written}");
    }
    let wrong = "proxy: { queue: { tenant_sources: [auth_heder] } }";
    let error = World::default().load(wrong).unwrap_err();
    assert!(error.contains("did you mean `auth_header`?"), "{error}");
}

#[test]
fn a_service_in_kubernetes_named_arriero_changes_nothing() {
    let world = World::with_env(&[
        ("ARRIERO_SERVICE_HOST", "10.96.0.7"),
        ("ARRIERO_SERVICE_PORT", "40114"),
        ("ARRIERO_SERVICE_PORT_HTTP", "40114"),
        ("ARRIERO_PORT", "tcp://10.96.0.7:40114"),
        ("ARRIERO_PORT_40114_TCP", "tcp://10.96.0.7:40114"),
        ("ARRIERO_PORT_40114_TCP_PROTO", "tcp"),
        ("ARRIERO_PORT_40114_TCP_PORT", "40114"),
        ("ARRIERO_PORT_40114_TCP_ADDR", "10.96.0.7"),
        // A second Service, `arriero-admin`, whose link has the name of one of our keys.
        ("ARRIERO_ADMIN_PORT", "tcp://10.96.0.8:40115"),
        ("ARRIERO_ADMIN_SERVICE_HOST", "10.96.0.8"),
    ]);
    let config = world.load_nothing().unwrap();
    assert_eq!((config.server.port, config.admin.port), (40114, 40115));
}

#[test]
fn variables_expand_in_any_string() {
    let world = World::with_env(&[
        ("GPU", "gpu-7"),
        ("PORT", "9000"),
        ("EMPTY", ""),
        ("ARRIERO_MINE", "mine"),
    ]);
    let text = "
server: { port: \"${PORT}\" }
discovery:
  static:
    endpoints:
      - url: http://${GPU}:${OLLAMA_PORT:-11434}
        name: ${EMPTY:-named}-${GPU}
        headers: { X-A: \"$${literal} ${ARRIERO_MINE}\", X-B: 007 }
";
    let config = world.load(text).unwrap();
    let node = &config.nodes[0];
    assert_eq!(config.server.port, 9000);
    assert_eq!(node.url.to_string(), "http://gpu-7:11434");
    assert_eq!(node.name, "named-gpu-7");
    let headers: Vec<(&str, &str)> = node
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.reveal().as_str()))
        .collect();
    assert_eq!(headers, [("X-A", "${literal} mine"), ("X-B", "007")]);
}

#[test]
fn without_a_list_the_nodes_come_from_the_environment() {
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let table: &[(Pairs, &[&str])] = &[
        (&[], &["http://127.0.0.1:11434"]),
        (&[("OLLAMA_BASE_URL", "http://a:1/")], &["http://a:1"]),
        (
            &[("OLLAMA_BASE_URLS", ""), ("OLLAMA_BASE_URL", "http://a:1")],
            &["http://a:1"],
        ),
        (
            &[
                ("OLLAMA_BASE_URLS", "http://a:1; https://b/x;;http://a:1/"),
                ("OLLAMA_BASE_URL", "http://c:1"),
            ],
            &["http://a:1", "https://b:443/x"],
        ),
    ];
    for (env, urls) in table {
        for config in [
            World::with_env(env).load_nothing(),
            World::with_env(env).load("server: { port: 1 }"),
        ] {
            let got: Vec<String> = config
                .unwrap()
                .nodes
                .iter()
                .map(|node| node.url.to_string())
                .collect();
            assert_eq!(got, *urls, "{env:?}");
        }
    }
    let error = World::with_env(&[("OLLAMA_BASE_URLS", "gpu-1:11434")])
        .load_nothing()
        .unwrap_err();
    assert_eq!(
        error,
        "configuration: environment variable `OLLAMA_BASE_URLS`: `gpu-1:11434` has no scheme\n  hint: write `http://gpu-1:11434`"
    );
}

#[test]
fn an_endpoint_takes_what_its_type_says() {
    let text = "
discovery:
  static:
    endpoints:
      - { url: 'http://a:8000/', type: vllm }
      - { url: 'http://b:8000', type: lemonade }
      - { url: 'https://C.example', type: openai, check_interval: 500ms, slots: 8, weight: 3 }
      - { url: 'http://[::1]:12434/engines', type: dmr, enabled: false }
      - { url: 'http://[::1]:12434', type: dmr }
";
    let config = World::default().load(text).unwrap();
    let shown: Vec<String> = config
        .nodes
        .iter()
        .map(|node| {
            format!(
                "{} {} {} {} {}",
                node.name, node.url, node.profile.name, node.health_path, node.model_path
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "a:8000 http://a:8000 vllm /health /v1/models",
            "b:8000 http://b:8000 lemonade /api/v1/health /api/v1/models",
            "c.example:443 https://c.example:443 openai-compatible /v1/models /v1/models",
            "[::1]:12434 http://[::1]:12434 docker-model-runner /engines/v1/models /engines/v1/models",
        ]
    );
    let fast = &config.nodes[2];
    assert_eq!(
        (fast.check_timeout, fast.slots, fast.weight),
        (Duration::from_millis(500), Some(8), 3)
    );
}

#[test]
fn credentials_come_from_the_file_or_from_files() {
    let mut world = World::with_env(&[("TOKEN", "t-env")]);
    world
        .files
        .insert("/run/key".to_owned(), b"k-file\n".to_vec());
    world.files.insert(
        "/run/ca".to_owned(),
        b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".to_vec(),
    );
    let text = "
discovery:
  static:
    endpoints:
      - { url: 'http://a', auth: { type: bearer, token: \"${TOKEN}\" } }
      - { url: 'http://b', auth: { type: api_key, key_file: /run/key } }
      - { url: 'http://c', auth: { type: basic, username: me, password: 0123 } }
      - { url: 'https://d', tls: { ca: /run/ca, server_name: node } }
";
    let config = world.load(text).unwrap();
    let shown: Vec<String> = config
        .nodes
        .iter()
        .map(|node| match &node.auth {
            NodeAuth::None => "none".to_owned(),
            NodeAuth::Bearer(token) => token.reveal().clone(),
            NodeAuth::ApiKey { header, key } => format!("{header} {}", key.reveal()),
            NodeAuth::Basic { username, password } => format!("{username} {}", password.reveal()),
        })
        .collect();
    assert_eq!(shown, ["t-env", "X-Api-Key k-file", "me 0123", "none"]);
    assert!(config.nodes[3].tls.ca_pem.is_some());
    let description = describe(&config);
    let debug = format!("{config:?}");
    for secret in ["t-env", "k-file", "0123"] {
        assert!(
            !description.contains(secret) && !debug.contains(secret),
            "{secret} is shown"
        );
    }
}

#[test]
fn aliases_and_merges_work_and_are_bounded() {
    let text = "
discovery:
  static:
    endpoints:
      - &gpu { url: 'http://a', slots: 2, priority: 7 }
      - { <<: *gpu, url: 'http://b' }
";
    let config = World::default().load(text).unwrap();
    assert_eq!(
        (config.nodes[1].slots, config.nodes[1].priority),
        (Some(2), 7)
    );
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let error = World::default().load(&bomb).unwrap_err();
    assert!(error.contains("this is not YAML"), "{error}");
    let deep = format!("server: {}{}", "[".repeat(5000), "]".repeat(5000));
    assert!(World::default().load(&deep).is_err());
    let long = format!("# {}\n", "x".repeat(1 << 20));
    let error = World::default().load(&long).unwrap_err();
    assert_eq!(
        error,
        "arriero.yaml: the file has 1048579 bytes; at most 1048576 are read"
    );
}

#[test]
fn all_spellings_of_a_yaml_boolean_are_read_and_no_other() {
    for (written, read) in [
        ("true", Ok(true)),
        ("True", Ok(true)),
        ("TRUE", Ok(true)),
        ("false", Ok(false)),
        ("False", Ok(false)),
        ("FALSE", Ok(false)),
        ("yes", Err(())),
        ("No", Err(())),
        ("off", Err(())),
        ("tRUE", Err(())),
        ("0", Err(())),
    ] {
        let file = format!("server: {{ h2c: {written} }}");
        let config = World::default().load(&file);
        if let Err(error) = &config {
            assert!(error.contains("hint: write `true` or `false`"), "{error}");
        }
        let config = config.map(|config| config.server.h2c);
        assert_eq!(config.map_err(|_| ()), read, "{written}");
    }
}

#[test]
fn a_reserved_port_is_not_shared() {
    let error = World::with_env(&[("ARRIERO_ADMIN_PORT", "40114")])
        .load_nothing()
        .unwrap_err();
    assert!(
        error.starts_with("configuration: `server.port` and `admin.port` are both 40114"),
        "{error}"
    );
    assert!(
        World::default()
            .load("server: { port: 0 }\nadmin: { port: 0 }")
            .is_ok()
    );
}

//! Nodes behind TLS: whom the gateway trusts is what the configuration says, and a refusal names the certificate.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use arriero::config::{self, Config};
use arriero::demo;
use arriero::gateway::local::LocalGateway;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::support::{Herd, within};

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;

/// An authority that signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate of this name and its key, in PEM.
    fn client(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// A server of this name that lets only those in whose certificate this authority has signed.
    fn picky_server(&self, name: &str) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an anchor");
        let provider = Arc::new(ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        self.server_for(name, clients.build().expect("a verifier"))
    }

    /// What a server of this name needs.
    fn server(&self, name: &str) -> Arc<ServerConfig> {
        self.server_for(name, WebPkiClientVerifier::no_client_auth())
    }

    fn server_for(&self, name: &str, clients: Arc<dyn ClientCertVerifier>) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key in DER");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a server");
        Arc::new(config)
    }
}

/// Takes TLS off connections in front of a node. Dropping it ends it.
struct Terminator {
    addr: SocketAddr,
    server: Arc<Mutex<Arc<ServerConfig>>>,
    _task: JoinSet<()>,
}

impl Terminator {
    async fn start(node: SocketAddr, server: Arc<ServerConfig>) -> Terminator {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let server = Arc::new(Mutex::new(server));
        let current = server.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let server = current.lock().expect("no panic").clone();
                connections.spawn(async move {
                    let (Ok(mut outside), Ok(mut inside)) = (
                        TlsAcceptor::from(server).accept(socket).await,
                        TcpStream::connect(node).await,
                    ) else {
                        return; // the gateway did not like the certificate
                    };
                    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                });
            }
        });
        Terminator {
            addr,
            server,
            _task: task,
        }
    }

    /// Shows another certificate from now on.
    fn show(&self, server: Arc<ServerConfig>) {
        *self.server.lock().expect("no panic") = server;
    }
}

/// A configuration with one https node; `files` are what `tls.ca` can name.
fn config(addr: SocketAddr, tls: &str, check_interval: &str, files: &[(&str, String)]) -> Config {
    let text = format!(
        "management: {{ enabled: true }}\n\
         discovery:\n  model_discovery: {{ interval: 1s, loaded_interval: 50ms, timeout: 2s }}\n  static:\n    endpoints:\n      \
         - {{ url: \"https://{addr}\", name: gpu-0, type: ollama, check_interval: {check_interval}, check_timeout: 1s{tls} }}\n"
    );
    let read_file = |path: &str| {
        let found = files.iter().find(|(name, _)| *name == path);
        found
            .map(|(_, text)| text.clone().into_bytes())
            .ok_or_else(|| "no such file".to_owned())
    };
    config::load(&config::Sources {
        file: Some(("test.yaml", &text)),
        env: &|_| None,
        env_names: Vec::new(),
        read_file: &read_file,
        list_dir: &|path| Err(format!("{path}: tests read no files")),
        cores: 2,
        terminal: false,
    })
    .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A node behind a certificate, and a gateway that reaches it only so.
async fn behind(
    server: Arc<ServerConfig>,
    tls: &str,
    check_interval: &str,
    files: &[(&str, String)],
) -> (Herd, Terminator) {
    let builder = demo::Node::builder().loaded("llama3").tokens(4);
    let node = builder.start().await.expect("a node");
    let terminator = Terminator::start(node.addr(), server).await;
    let config = config(terminator.addr, tls, check_interval, files);
    let herd = Herd {
        nodes: vec![node],
        gateway: LocalGateway::start(config).await.expect("a gateway"),
    };
    (herd, terminator)
}

const IP: &str = "127.0.0.1";
const NAME: &str = "gpu.test";

#[tokio::test]
async fn a_node_that_asks_for_a_certificate_gets_ours() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let (cert, key) = ours.client("gateway.test");
    let (foreign_cert, foreign_key) = other.client("gateway.test");
    let files = [
        ("ours.pem", ours.pem()),
        ("cert.pem", cert),
        ("key.pem", key),
        ("foreign-cert.pem", foreign_cert),
        ("foreign-key.pem", foreign_key),
    ];
    let cases = [
        (
            ", tls: { ca: ours.pem, cert: cert.pem, key: key.pem }",
            true,
        ),
        (
            ", tls: { ca: ours.pem, cert: foreign-cert.pem, key: foreign-key.pem }",
            false,
        ),
        (", tls: { ca: ours.pem }", false),
    ];
    for (tls, lets_in) in cases {
        let (herd, _terminator) = behind(ours.picky_server(IP), tls, "1s", &files).await;
        if lets_in {
            herd.settled().await;
            herd.post("/api/chat", CHAT).await.is(200);
        } else {
            herd.eventually(&format!("a refusal of {tls}"), |view| {
                view.nodes[0].health.is_down()
            })
            .await;
        }
    }
}

#[tokio::test]
async fn whom_the_gateway_trusts() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let files = [
        ("ours.pem", ours.pem()),
        ("other.pem", other.pem()),
        (
            "both.pem",
            format!("The other:\n{}\nOurs:\n{}", other.pem(), ours.pem()),
        ),
    ];
    // The name in the certificate, the endpoint's `tls`, and what is said of it when it is refused.
    let cases = [
        (IP, "", Some("UnknownIssuer")),
        (IP, ", tls: { insecure_skip_verify: true }", None),
        (NAME, ", tls: { insecure_skip_verify: true }", None),
        (
            IP,
            ", tls: { ca: ours.pem, insecure_skip_verify: true }",
            None,
        ),
        (
            NAME,
            ", tls: { ca: other.pem, insecure_skip_verify: true }",
            None,
        ),
        (IP, ", tls: { ca: ours.pem }", None),
        (IP, ", tls: { ca: both.pem }", None),
        (IP, ", tls: { ca: other.pem }", Some("UnknownIssuer")),
        (NAME, ", tls: { ca: ours.pem }", Some("gpu.test")),
        (NAME, ", tls: { ca: ours.pem, server_name: gpu.test }", None),
        (
            IP,
            ", tls: { ca: ours.pem, server_name: gpu.test }",
            Some("gpu.test"),
        ),
        (
            NAME,
            ", tls: { server_name: gpu.test }",
            Some("UnknownIssuer"),
        ),
    ];
    for (name, tls, refused) in cases {
        let what = format!("a certificate for {name}{tls}");
        let (herd, _terminator) = behind(ours.server(name), tls, "1s", &files).await;
        let Some(why) = refused else {
            herd.settled().await;
            let reply = herd.post("/api/chat", CHAT).await.is(200);
            assert!(reply.complete, "{what}");
            continue;
        };
        herd.eventually(&what, |view| view.nodes[0].health.is_down())
            .await;
        herd.post("/api/chat", CHAT).await.is(503);
        let page = herd.admin("/internal/status/endpoints").await.text();
        assert!(
            page.contains("its certificate is not trusted") && page.contains(why),
            "{what}: {page}"
        );
        assert_eq!(herd.served(0).len(), 0, "{what}");
        herd.is_idle().await;
    }
}

#[tokio::test]
async fn a_certificate_that_turns_bad_under_traffic_is_a_502_that_names_it() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let files = [("ours.pem", ours.pem())];
    let tls = ", tls: { ca: ours.pem }";
    let (herd, terminator) = behind(ours.server(IP), tls, "1h", &files).await;
    herd.settled().await;
    terminator.show(other.server(IP));
    let reply = herd.post("/api/chat", CHAT).await.is(502);
    assert!(
        reply.text().contains("its certificate is not trusted"),
        "{}",
        reply.text()
    );
    assert_eq!(herd.served(0).len(), 0);
    herd.is_idle().await;
}

#[tokio::test]
async fn streams_uploads_and_leaving_work_over_tls() {
    let ours = Authority::new("ours");
    let files = [("ours.pem", ours.pem())];
    let tls = ", tls: { ca: ours.pem, server_name: gpu.test }";
    let (herd, _terminator) = behind(ours.server(NAME), tls, "1s", &files).await;
    herd.settled().await;
    for _ in 0..3 {
        let reply = herd.post("/api/chat", CHAT).await.is(200);
        assert!(reply.text().contains("\"done\":true") && reply.complete);
    }
    let reused = herd.served(0).iter().filter(|seen| seen.reused).count();
    assert_eq!(reused, 2, "one handshake serves all three");
    let blob = "b".repeat(256 * 1024);
    let path = format!("/api/blobs/sha256:{}?node=gpu-0", "a".repeat(64));
    herd.post(&path, &blob).await;
    let seen = herd.served(0).pop().expect("an upload");
    assert_eq!(seen.body_bytes, blob.len() as u64);
    assert_eq!(seen.body, blob.as_bytes()[..64 * 1024]);
    herd.nodes[0].pause_after(2);
    let mut raw = herd.begin("/api/chat", CHAT).await;
    assert_eq!(raw.head().await.expect("a head").0, 200);
    drop(raw);
    within(
        "the node to be freed",
        herd.nodes[0].until(|node| node.generating() == 0),
    )
    .await;
    herd.is_idle().await;
}

#[tokio::test]
async fn a_file_without_a_usable_certificate_starts_nothing() {
    let good = Authority::new("ours").pem();
    let block = |inside: &str| {
        format!("-----BEGIN CERTIFICATE-----\n{inside}\n-----END CERTIFICATE-----\n")
    };
    let cases = [
        ("empty", block("")),
        ("no base64", block("!!!!")),
        ("no certificate", block("AAAA")),
        ("cut in the middle", good[..good.len() / 2].to_owned()),
        ("no end", "-----BEGIN CERTIFICATE-----\nAAAA\n".to_owned()),
        (
            "a good one before a bad one",
            format!("{good}{}", block("AAAA")),
        ),
    ];
    for (what, pem) in cases {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let files = [("bad.pem", pem)];
        let config = config(addr, ", tls: { ca: bad.pem }", "1s", &files);
        let Err(error) = LocalGateway::start(config).await else {
            panic!("{what}: it started");
        };
        let text = error.to_string();
        assert!(
            text.contains("node `gpu-0`") && text.contains("tls.ca"),
            "{what}: {text}"
        );
    }
}

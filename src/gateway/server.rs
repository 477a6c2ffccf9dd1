//! Putting the parts together: listeners, background services, signals.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use pingora::apps::HttpServerOptions;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::proxy::HttpProxy;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::services::background::background_service;
use pingora::services::listening::Service;

use crate::config::Config;
use crate::error::{Fault, Kind};

use super::Gateway;
use super::admin::AdminApp;
use super::drain::{LAG, Signals};
use super::guard::{Guard, Heads};
use super::origin::{Origin, Reloads};
use super::probe::Watch;
use super::proxy::Proxy;

/// Connections the admin listener takes; probes and scrapes need few.
const ADMIN_CONNECTIONS_MAX: usize = 256;

/// A gateway and what stands at its doors.
pub struct Parts {
    /// What all other parts share.
    pub gateway: Arc<Gateway>,
    /// The clients' listener, behind its limits.
    pub main: Guard<Heads<HttpProxy<Proxy>>>,
    /// The admin listener, behind limits of its own.
    pub admin: Guard<AdminApp>,
    /// The task that probes the nodes and asks for their models.
    pub watch: Watch,
}

/// Builds a gateway without opening anything.
///
/// # Errors
/// `Internal` when the configuration cannot be carried out.
pub fn build(config: Config) -> Result<Parts, Fault> {
    let conf = Arc::new(server_conf(&config));
    let server = config.server.clone();
    let gateway = Arc::new(Gateway::new(config, &conf)?);
    let mut proxy = HttpProxy::new(Proxy(gateway.clone()), conf);
    let mut options = HttpServerOptions::default();
    options.h2c = server.h2c;
    options.h2_idle_timeout = Some(server.idle_timeout);
    proxy.server_options = Some(options);
    proxy.handle_init_modules();
    let metrics = gateway.metrics().clone();
    Ok(Parts {
        main: Guard::new(
            Heads(Arc::new(proxy)),
            server.connections_max,
            server.read_header_timeout,
            metrics.clone(),
        ),
        admin: Guard::new(
            AdminApp(gateway.clone()),
            ADMIN_CONNECTIONS_MAX,
            server.read_header_timeout,
            metrics,
        ),
        watch: Watch(gateway.clone()),
        gateway,
    })
}

/// Runs a gateway until a signal ends it; with an origin, its configuration is read again when there is reason to. Blocks.
///
/// # Errors
/// `Internal` when a listener's address cannot be bound.
pub fn run(config: Config, origin: Option<Origin>) -> Result<(), Fault> {
    let main_addr = SocketAddr::new(config.server.host, config.server.port);
    let admin_addr = SocketAddr::new(config.admin.host, config.admin.port);
    must_be_free(main_addr, "server")?;
    must_be_free(admin_addr, "admin")?;
    let (threads, longest) = (config.server.threads, config.server.shutdown_timeout);
    let mut server = Server::new_with_opt_and_conf(None, server_conf(&config));
    server.bootstrap();
    let parts = build(config)?;

    let mut main = Service::new("gateway".into(), parts.main);
    main.add_listener(listener(main_addr));
    main.threads = Some(threads);
    let mut admin = Service::new("admin".into(), parts.admin);
    admin.add_listener(listener(admin_addr));
    admin.threads = Some(1); // of its own, so that probes and scrapes answer under any load
    server.add_service(main);
    server.add_service(admin);
    server.add_service(background_service("watch", parts.watch));

    if let Some(origin) = origin.map(Arc::new) {
        parts.gateway.set_origin(origin.clone());
        let gateway = parts.gateway.clone();
        server.add_service(background_service("reloads", Reloads { gateway, origin }));
    }

    let lifecycle = parts.gateway.lifecycle().clone();
    log::info!(
        "arriero {} listens on {main_addr}, admin on {admin_addr}",
        env!("CARGO_PKG_VERSION")
    );
    server.run(RunArgs {
        shutdown_signal: Box::new(Signals {
            lifecycle,
            lag: LAG.min(longest),
            longest,
        }),
    });
    Ok(())
}

fn server_conf(config: &Config) -> ServerConf {
    ServerConf {
        threads: config.server.threads,
        upstream_keepalive_pool_size: 512,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}

/// A listener whose connections have no read buffer of their own. Pingora's takes 64 KiB per connection and serves TLS, which is
/// read in small records; plain HTTP is read straight into the buffers of the head and the body.
fn listener(addr: SocketAddr) -> ListenerConfig {
    ListenerConfig::tcp(addr.to_string()).l4_buffer(L4BufferSettings::default().read(0))
}

/// Pingora panics when an address is taken; people get a sentence.
fn must_be_free(addr: SocketAddr, section: &str) -> Result<(), Fault> {
    match TcpListener::bind(addr) {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::new(
            Kind::Internal,
            format!(
                "{addr} can't be listened on: {error}; stop what uses it or set {section}.host and {section}.port"
            ),
        )),
    }
}

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
use super::placement::Helper;
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
    /// The task that loads models ahead of requests, and keeps pinned ones in memory.
    pub helper: Helper,
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
        helper: Helper(gateway.clone()),
        gateway,
    })
}

/// Where both listeners will be. Pingora opens them by address, never tells a port that the kernel chose, and would make one
/// listener of `127.0.0.1:0` twice. So free ports are chosen before it hears of them.
#[derive(Debug, Clone, Copy)]
pub struct Doors {
    /// The clients' listener.
    pub main: SocketAddr,
    /// The admin listener.
    pub admin: SocketAddr,
}

impl Doors {
    /// Chooses a port where the configuration says 0, and closes it again: between this and Pingora others may take it, which is
    /// as unlikely as with a port that was written.
    ///
    /// # Errors
    /// `Internal` when an address cannot be bound: Pingora panics then; people get a sentence.
    pub fn choose(config: &Config) -> Result<Doors, Fault> {
        let (server, admin) = (&config.server, &config.admin);
        // Both are open at the same time, so that no port is chosen twice.
        let main = bind(SocketAddr::new(server.host, server.port), "server")?;
        let admin = bind(SocketAddr::new(admin.host, admin.port), "admin")?;
        Ok(Doors {
            main: main.1,
            admin: admin.1,
        })
    }
}

fn bind(addr: SocketAddr, section: &str) -> Result<(TcpListener, SocketAddr), Fault> {
    let bound = TcpListener::bind(addr).and_then(|socket| {
        let addr = socket.local_addr()?;
        Ok((socket, addr))
    });
    bound.map_err(|error| {
        let message = format!(
            "{addr} can't be listened on: {error}; stop what uses it or set {section}.host and {section}.port"
        );
        Fault::new(Kind::Internal, message)
    })
}

/// Runs a gateway until a signal ends it; with an origin, its configuration is read again when there is reason to. Blocks.
///
/// # Errors
/// `Internal` when the configuration cannot be carried out.
pub fn run(config: Config, doors: Doors, origin: Option<Origin>) -> Result<(), Fault> {
    let (threads, longest) = (config.server.threads, config.server.shutdown_timeout);
    let mut server = Server::new_with_opt_and_conf(None, server_conf(&config));
    server.bootstrap();
    let parts = build(config)?;

    let mut main = Service::new("gateway".into(), parts.main);
    main.add_listener(listener(doors.main));
    main.threads = Some(threads);
    let mut admin = Service::new("admin".into(), parts.admin);
    admin.add_listener(listener(doors.admin));
    admin.threads = Some(1); // of its own, so that probes and scrapes answer under any load
    server.add_service(main);
    server.add_service(admin);
    server.add_service(background_service("watch", parts.watch));
    server.add_service(background_service("placement", parts.helper));

    if let Some(origin) = origin.map(Arc::new) {
        parts.gateway.set_origin(origin.clone());
        let gateway = parts.gateway.clone();
        server.add_service(background_service("reloads", Reloads { gateway, origin }));
    }

    let lifecycle = parts.gateway.lifecycle().clone();
    log::info!(
        "arriero {} listens on {}, admin on {}",
        env!("CARGO_PKG_VERSION"),
        doors.main,
        doors.admin
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

//! A bare Pingora pass-through: what the framework itself costs, with nothing of arriero in it. Runs in a process of its own.

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora::prelude::{HttpPeer, Server, Session, http_proxy_service};
use pingora::proxy::ProxyHttp;
use pingora::server::RunArgs;
use pingora::server::configuration::ServerConf;

use crate::Result;

struct Passthrough {
    node: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Passthrough {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut (),
    ) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.node, false, String::new())))
    }
}

/// Serves `listen` from `node` until the process is killed.
///
/// # Errors
/// When an argument is not an address.
pub(crate) fn serve(listen: &str, node: &str) -> Result<()> {
    let node = node.parse()?;
    let listen: SocketAddr = listen.parse()?;
    let conf = ServerConf {
        threads: 1,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Passthrough { node });
    service.add_tcp(&listen.to_string());
    server.add_service(service);
    server.run(RunArgs::default());
    Ok(())
}

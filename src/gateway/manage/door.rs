//! Who may change the nodes at all: no page that a browser of this network happens to show.

use crate::admin;
use crate::config::Config;
use crate::error::Fault;
use crate::gateway::client::Client;

/// Lets a call through unless management is off or a page of another site sent it. The nodes get neither `Origin` nor `Host`, and
/// any Content-Type passes for JSON, so nobody behind us could tell such a page from a program.
///
/// # Errors
/// 403.
pub(super) fn admits(client: &Client<'_>, config: &Config) -> Result<(), Fault> {
    if !config.management.enabled {
        let message = "model management is off; set management.enabled: true to let clients change the nodes' models";
        return Err(Fault::refused(403, "management_off", message));
    }
    let text = |name| client.headers().get(name)?.to_str().ok();
    if admin::is_foreign(text("origin"), text("sec-fetch-site")) {
        let message = "pages of other sites may not change the nodes' models; send this from a program, or from a page of this address";
        return Err(Fault::refused(403, "foreign_page", message));
    }
    // A name that was made to mean this machine would pass for a page of our own (DNS rebinding).
    let host = text("host").or_else(|| Some(client.uri().authority()?.as_str()));
    if config.server.host.is_loopback()
        && !admin::host_is_allowed(host, &config.admin.allowed_hosts)
    {
        let message = "models are not changed under this Host; use localhost or the address, or add the name to admin.allowed_hosts";
        return Err(Fault::refused(403, "host_not_allowed", message));
    }
    Ok(())
}

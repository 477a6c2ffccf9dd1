//! A node's address: `http[s]://host[:port][/path]`, taken apart and put together.

use std::fmt;
use std::net::Ipv6Addr;

use super::NodeUrl;
use super::text::Wrong;

const URL_BYTES_MAX: usize = 2048;

impl NodeUrl {
    /// `host:port`, the host in brackets where it is an IPv6 address.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.base_path)
    }
}

/// Reads a node's address. Never shows credentials in its message.
pub(super) fn parse(text: &str) -> Result<NodeUrl, Wrong> {
    if URL_BYTES_MAX < text.len() {
        return Err(Wrong::new(
            format!("the URL is longer than {URL_BYTES_MAX} bytes"),
            "write a shorter one",
        ));
    }
    // Before anything else, since every later message shows what it read.
    if text.contains('@') {
        return Err(Wrong::new(
            "a name and password in the URL would show up in logs",
            "write them under `auth: { type: basic, username: …, password: … }`",
        ));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Wrong::new(
            "a URL holds no spaces",
            "write one address such as `http://gpu-1:11434`",
        ));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(Wrong::new(
            format!("`{text}` has no scheme"),
            format!("write `http://{text}`"),
        ));
    };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        other => {
            return Err(Wrong::new(
                format!("`{other}://` is not spoken to nodes"),
                "write an `http://` or `https://` address",
            ));
        }
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = host_and_port(authority, if tls { 443 } else { 80 })?;
    let base_path = base_path(path)?;
    Ok(NodeUrl {
        tls,
        host,
        port,
        base_path,
    })
}

/// What stands in front of `/api` and `/v1`, without the slash at its end.
fn base_path(path: &str) -> Result<String, Wrong> {
    if path.contains(['?', '#']) {
        return Err(Wrong::new(
            "a node's URL has no query or fragment",
            "end it after the path",
        ));
    }
    let path = path.trim_end_matches('/');
    if path.ends_with("/v1") {
        return Err(Wrong::new(
            "the gateway adds `/v1` itself",
            "end the URL before it",
        ));
    }
    if !path.chars().all(|c| c.is_ascii_graphic()) {
        return Err(Wrong::new(
            "the path holds characters a request line cannot carry",
            "percent-encode them",
        ));
    }
    Ok(path.to_owned())
}

fn host_and_port(authority: &str, default_port: u16) -> Result<(String, u16), Wrong> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or_else(|| {
                Wrong::new(
                    "the IPv6 address has no closing `]`",
                    "write it like `http://[::1]:11434`",
                )
            })?;
            address.parse::<Ipv6Addr>().map_err(|_| {
                Wrong::new(
                    format!("`{address}` is not an IPv6 address"),
                    "write it like `http://[::1]:11434`",
                )
            })?;
            (address, after)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    if host.is_empty() {
        return Err(Wrong::new(
            "the URL names no host",
            "write it like `http://gpu-1:11434`",
        ));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if !host.chars().all(legal) {
        return Err(Wrong::new(
            format!("`{host}` is not a host name"),
            "write a name or an address; names in other scripts go in their `xn--` form",
        ));
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => default_port,
        Some(digits) => digits
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| {
                Wrong::new(
                    format!("`{digits}` is not a port"),
                    "write a number from 1 to 65535; an IPv6 address goes in brackets",
                )
            })?,
        None => {
            return Err(Wrong::new(
                format!("`{port}` cannot follow an address"),
                "write it like `http://[::1]:11434`",
            ));
        }
    };
    Ok((host.to_ascii_lowercase(), port))
}

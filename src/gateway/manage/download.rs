//! `/models/download`: a file from a listed address, by a connection of our own, to the nodes.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use pingora::http::RequestHeader;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tokio::time::timeout;

use crate::dialect::{Call, Operation};
use crate::error::{Fault, Kind};
use crate::gateway::USER_AGENT;
use crate::gateway::client::{Client, broken};
use crate::gateway::failure::plain;
use crate::gateway::proxy::Context;
use crate::management::source::{is_public, model_name};
use crate::management::{Aim, Body, Source, free_name};

use super::Desk;
use super::ending::Ending;
use super::spool::{FILE_BYTES_MAX, Spool};
use super::upload::{Events, Named, tell_of_file};

/// Most redirects that are followed; hubs need one or two.
const REDIRECTS_MAX: usize = 5;

/// What a client asks for.
struct Wanted {
    source: Source,
    file: String,
    /// 64 hexadecimal digits, lower case.
    sha256: Option<String>,
}

/// An answer whose body is the file.
struct Found {
    session: HttpSession,
    length: Option<u64>,
}

impl Desk {
    pub(super) async fn download(
        self,
        client: &mut Client<'_>,
        call: &Call,
        aim: &Aim,
        ctx: &mut Context,
    ) -> Result<(), Fault> {
        let wanted = {
            let raw = client.read_body(&self.config.server).await?;
            self.wanted(&Body::parse(&raw)?)?
        };
        let targets = self.targets(call, Operation::Create, aim)?;
        let _room = self.gateway.jobs.file()?;
        let (mut events, told) = Events::new();
        let nodes = targets.clone();
        let ids = targets.nodes.iter().map(|it| it.node).collect();
        let mut ending = Ending::of(&self, &format!("download of {}", wanted.file), ids);
        let work = pin!(async {
            let done = match self.fetch(wanted, &mut events).await {
                Ok(named) => self.deliver(named, nodes, &mut events, &mut ending).await,
                Err(fault) => Err(fault),
            };
            done.inspect_err(|fault| ending.failed(fault))
        });
        tell_of_file(client, work, told, &targets, ctx).await
    }

    fn wanted(&self, body: &Body<'_>) -> Result<Wanted, Fault> {
        let source = Source::parse(&body.required("url")?)?;
        if !source.is_listed(&self.config.management.download_hosts) {
            let message = format!(
                "nothing is fetched from `{}`; add its address to management.download_hosts to allow it",
                source.authority()
            );
            return Err(Fault::refused(403, "host_not_listed", message));
        }
        let file = source.file_name().ok_or_else(|| {
            let message = "`url` does not end with a file's name; write the address of a file";
            Fault::malformed("bad_url", message)
        })?;
        free_name(model_name(&file), &self.gateway.fleet.view())?;
        let sha256 = body.text("sha256")?.map(|text| {
            let digits = text.strip_prefix("sha256:").unwrap_or(&text);
            digits.to_ascii_lowercase()
        });
        let is_digest = |text: &String| text.len() == 64 && text.bytes().all(is_hex);
        if !sha256.as_ref().is_none_or(is_digest) {
            let message = "`sha256` is no digest; write its 64 hexadecimal digits";
            return Err(Fault::malformed("invalid_digest", message));
        }
        Ok(Wanted {
            source,
            file,
            sha256,
        })
    }

    async fn fetch(&self, wanted: Wanted, events: &mut Events) -> Result<Named, Fault> {
        let mut found = self.find(wanted.source).await?;
        let stall = self.config.proxy.read_timeout;
        let mut spool = Spool::new(self.config.state_dir.as_deref()).await?;
        loop {
            let read = timeout(stall, found.session.read_body_bytes()).await;
            let read = read.map_err(|_| failed("it stalled (proxy.read_timeout)"))?;
            let Some(piece) = read.map_err(|error| failed(&plain(&error)))? else {
                break;
            };
            spool.write(&piece).await?;
            events.progress(spool.bytes(), found.length).await;
        }
        if found.length.is_some_and(|length| length != spool.bytes()) {
            return Err(failed("it broke off before the end"));
        }
        let sealed = spool.seal().await?;
        if wanted.sha256.is_some_and(|sha256| sha256 != sealed.sha256) {
            let message = format!(
                "the file's SHA-256 is {}, not what `sha256` says; nothing was sent to the nodes",
                sealed.sha256
            );
            return Err(Fault::malformed("digest_mismatch", message));
        }
        Ok(Named {
            file: wanted.file,
            sealed,
        })
    }

    /// Follows redirects to an answer that is the file.
    async fn find(&self, mut source: Source) -> Result<Found, Fault> {
        for _ in 0..=REDIRECTS_MAX {
            let session = self.get(&source).await?;
            let Some(head) = session.resp_header() else {
                return Err(failed("its answer is not HTTP"));
            };
            let header = |name| head.headers.get(name).and_then(|it| it.to_str().ok());
            match head.status.as_u16() {
                200 => {
                    let length = header("content-length").and_then(|it| it.parse().ok());
                    if length.is_some_and(|length| FILE_BYTES_MAX < length) {
                        let message = format!("the file is longer than {FILE_BYTES_MAX} bytes");
                        return Err(Fault::refused(413, "file_too_large", message));
                    }
                    return Ok(Found { session, length });
                }
                301 | 302 | 303 | 307 | 308 => {
                    let location = header("location").unwrap_or_default();
                    source = source.redirected(location).map_err(|fault| {
                        failed(&format!("its redirect is refused: {}", fault.message))
                    })?;
                }
                status => return Err(failed(&format!("it answered {status}"))),
            }
        }
        Err(failed("it redirects too often"))
    }

    async fn get(&self, source: &Source) -> Result<HttpSession, Fault> {
        let limit = self.config.proxy.connection_timeout;
        let addr = self.address(source, limit).await?;
        let mut peer = HttpPeer::new(addr, source.tls, source.host.clone());
        peer.options.connection_timeout = Some(limit);
        peer.options.total_connection_timeout = Some(limit * 2);
        let mut request = RequestHeader::build("GET", source.target().as_bytes(), Some(5));
        let request = request.as_mut().map_err(|error| failed(&plain(error)))?;
        for (name, value) in [
            ("host", source.authority().as_str()),
            ("accept", "*/*"),
            ("accept-encoding", "identity"),
            ("user-agent", USER_AGENT),
        ] {
            request.insert_header(name, value).map_err(broken)?;
        }
        let asking = async {
            // Never from a pool: who is at the other end was made sure of for this request.
            let mut session = self.gateway.probes.get_http_session(&peer).await?.0;
            session
                .write_request_header(Box::new(request.clone()))
                .await?;
            session.finish_body().await?;
            session.read_response().await?;
            Ok(session)
        };
        let asked = timeout(self.config.proxy.read_timeout, asking).await;
        let asked = asked.map_err(|_| failed("it did not answer (proxy.read_timeout)"))?;
        asked.map_err(|error: Box<pingora::Error>| failed(&plain(&error)))
    }

    /// Where to connect. What is not listed may only be a public server that proves who it is: a redirect must not reach what
    /// stands behind our firewall.
    async fn address(&self, source: &Source, limit: Duration) -> Result<SocketAddr, Fault> {
        let is_listed = source.is_listed(&self.config.management.download_hosts);
        let refused = |why: &str| {
            let message = format!(
                "the download was redirected to `{}`, {why}; add it to management.download_hosts to allow it",
                source.authority()
            );
            Fault::refused(403, "host_not_listed", message)
        };
        if !is_listed && !source.tls {
            return Err(refused("which is not https"));
        }
        let host = (source.host.as_str(), source.port);
        let looked_up = timeout(limit, tokio::net::lookup_host(host)).await;
        let found: Vec<SocketAddr> = match looked_up {
            Ok(Ok(found)) => found.collect(),
            _ => return Err(failed("its name can't be resolved")),
        };
        if !is_listed && !found.iter().all(|addr| is_public(addr.ip())) {
            return Err(refused("which is no public address"));
        }
        found
            .first()
            .copied()
            .ok_or_else(|| failed("its name has no address"))
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn failed(why: &str) -> Fault {
    let message = format!("the file can't be fetched: {why}");
    Fault::new(Kind::NodeFailed, message)
}

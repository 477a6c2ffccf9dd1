//! DNS lookups for discovery: every A and AAAA record of a name, asked for anew each time.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::time::{Instant, timeout_at};

use crate::discovery::{Answer, Family, Missing, Resolv, in_hosts};

/// Looks names up. Nothing is kept from one lookup to the next, so an interval means what it says, and a change of
/// resolv.conf or hosts counts at once.
#[derive(Debug)]
pub struct Dns {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    port: u16,
}

impl Default for Dns {
    fn default() -> Dns {
        Dns::of_system("/etc/resolv.conf", "/etc/hosts", 53)
    }
}

/// Whom to ask, for which names in turn, and until when.
struct Plan {
    /// For people.
    servers: String,
    resolver: TokioResolver,
    names: Vec<Name>,
    limit: Duration,
    deadline: Instant,
}

/// Why a question brought no addresses.
enum Lack {
    /// There is no such name.
    Name,
    /// There is, without records of this type.
    Records,
    /// Nobody knows: the text says why.
    Unknown(String),
}

impl Dns {
    /// Reads the system's settings from these files; `port` is where its servers listen, since resolv.conf names none.
    pub fn of_system(resolv_conf: impl Into<PathBuf>, hosts: impl Into<PathBuf>, port: u16) -> Dns {
        Dns {
            resolv_conf: resolv_conf.into(),
            hosts: hosts.into(),
            port,
        }
    }

    /// All addresses of `name`, from `server` or else as the system resolves names: its hosts file, then its servers with
    /// its search domains. A trailing dot keeps the search domains out. Takes `limit` at most.
    ///
    /// # Errors
    /// For people: nobody answered in time, the name has no address, or what came was no answer.
    pub async fn lookup(
        &self,
        name: &str,
        server: Option<SocketAddr>,
        limit: Duration,
    ) -> Result<Answer, String> {
        self.look(name, server, limit, false).await
    }

    /// As [`Self::lookup`], for a name whose last answer is kept when there is no new one. Then a server that fails for one search
    /// domain ends the search: what another domain has under that name may be somebody else's.
    ///
    /// # Errors
    /// As [`Self::lookup`].
    pub async fn lookup_again(
        &self,
        name: &str,
        server: Option<SocketAddr>,
        limit: Duration,
    ) -> Result<Answer, String> {
        self.look(name, server, limit, true).await
    }

    async fn look(
        &self,
        name: &str,
        server: Option<SocketAddr>,
        limit: Duration,
        is_settled: bool,
    ) -> Result<Answer, String> {
        if !Name::from_str_relaxed(name).is_ok_and(|name| 0 < name.num_labels()) {
            return Err(format!("`{name}` is not a name that DNS could know"));
        }
        let plan = match server {
            Some(server) => {
                let options = ResolverOpts::default();
                Plan::new(&[name.to_owned()], &[server], options, limit)
            }
            None => {
                let addrs = self.known_by_hosts(name).await;
                if !addrs.is_empty() {
                    let missing = None;
                    return Ok(Answer { addrs, missing });
                }
                self.plan_of_system(name, limit).await
            }
        };
        let plan = plan.map_err(|why| format!("`{name}` can't be looked up: {why}"))?;
        let answer = plan.carry_out(is_settled).await;
        answer.map_err(|why| format!("`{name}` does not resolve: {why}"))
    }

    /// What the hosts file says; a file that can't be read says nothing, as in every resolver.
    async fn known_by_hosts(&self, name: &str) -> Vec<IpAddr> {
        let text = tokio::fs::read(&self.hosts).await.unwrap_or_default();
        in_hosts(&String::from_utf8_lossy(&text), name)
    }

    async fn plan_of_system(&self, name: &str, limit: Duration) -> Result<Plan, String> {
        let file = self.resolv_conf.display();
        let hint = "set `server:` beside the name in `discovery.dns`";
        let text = tokio::fs::read(&self.resolv_conf).await;
        let text = text.map_err(|error| format!("{file}: {error}; {hint}"))?;
        let system = Resolv::parse(&String::from_utf8_lossy(&text));
        if system.servers.is_empty() {
            return Err(format!("{file} names no name server; {hint}"));
        }
        let servers = system.servers.iter();
        let servers: Vec<SocketAddr> = servers.map(|ip| (*ip, self.port).into()).collect();
        let mut options = ResolverOpts::default();
        options.timeout = system.timeout;
        options.attempts = system.attempts;
        Plan::new(&system.candidates(name), &servers, options, limit)
    }
}

impl Plan {
    fn new(
        names: &[String],
        servers: &[SocketAddr],
        mut options: ResolverOpts,
        limit: Duration,
    ) -> Result<Plan, String> {
        // One lost packet, or one dead server of several, must not use up the whole time.
        options.timeout = options.timeout.min(limit / 3);
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        let told: Vec<String> = servers.iter().map(SocketAddr::to_string).collect();
        let servers = servers.iter().map(|server| {
            let mut ways = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            ways.iter_mut().for_each(|way| way.port = server.port());
            NameServerConfig::new(server.ip(), true, ways)
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        let provider = TokioRuntimeProvider::default();
        let builder = TokioResolver::builder_with_config(config, provider).with_options(options);
        // With a search domain a name can become longer than names can be; such a one is not tried.
        let names = names.iter().flat_map(Name::from_str_relaxed);
        Ok(Plan {
            servers: told.join(", "),
            resolver: builder.build().map_err(|error| error.to_string())?,
            names: names.map(absolute).collect(),
            limit,
            deadline: Instant::now() + limit,
        })
    }

    /// Asks for one name after the other until one has an address. Both families of a name are asked for before the next
    /// name's turn: A records of one name and AAAA records of another would be nodes of different herds. Unless the name is settled,
    /// a server that fails for one search domain does not end the search, else a cluster without a way to the outside would resolve
    /// nothing.
    async fn carry_out(&self, is_settled: bool) -> Result<Answer, String> {
        let (mut exists, mut failure) = (false, None);
        for name in &self.names {
            let (v4, v6) = futures::join!(
                self.records(name, RecordType::A),
                self.records(name, RecordType::AAAA)
            );
            let (mut addrs, mut missing) = (Vec::new(), None);
            for (family, found) in [(Family::V4, v4), (Family::V6, v6)] {
                match found {
                    Ok(found) => addrs.extend(found),
                    Err(Lack::Name) => (),
                    Err(Lack::Records) => exists = true,
                    Err(Lack::Unknown(why)) => missing = Some(Missing { family, why }),
                }
            }
            if !addrs.is_empty() {
                return Ok(Answer { addrs, missing });
            }
            failure = failure.or(missing.map(|it| it.why));
            if is_settled && failure.is_some() {
                break;
            }
        }
        let none = match exists {
            true => format!("no A or AAAA records at {}", self.servers),
            false => format!("NXDOMAIN from {}", self.servers),
        };
        Err(failure.unwrap_or(none))
    }

    async fn records(&self, name: &Name, kind: RecordType) -> Result<Vec<IpAddr>, Lack> {
        let looked_up = timeout_at(self.deadline, self.resolver.lookup(name.clone(), kind)).await;
        let lookup = match looked_up {
            Ok(Ok(lookup)) => lookup,
            Ok(Err(error)) => return Err(self.lack(&error)),
            Err(_) => return Err(self.lack(&NetError::Timeout)),
        };
        // A DNS message is 64 KiB at most, so these are 4095 at most.
        let records = lookup
            .answers()
            .iter()
            .filter(|it| it.record_type() == kind);
        let addrs: Vec<IpAddr> = records.filter_map(|it| it.data.ip_addr()).collect();
        if addrs.is_empty() {
            return Err(Lack::Records); // such as an alias that leads nowhere
        }
        Ok(addrs)
    }

    /// What an error means. The library's words for a malformed answer may quote it, so they are not repeated.
    fn lack(&self, error: &NetError) -> Lack {
        let servers = &self.servers;
        let why = match error {
            error if error.is_nx_domain() => return Lack::Name,
            error if error.is_no_records_found() => return Lack::Records,
            NetError::Dns(DnsError::ResponseCode(code)) => {
                format!("{} from {servers}", mnemonic(*code))
            }
            NetError::Timeout => format!("no answer from {servers} within {:?}", self.limit),
            NetError::Io(error) => format!("{servers} can't be reached: {error}"),
            NetError::NoConnections => format!("{servers} can't be reached"),
            _ => format!("what came from {servers} is not a DNS answer that makes sense"),
        };
        Lack::Unknown(why)
    }
}

fn absolute(mut name: Name) -> Name {
    name.set_fqdn(true);
    name
}

/// As `dig` and name servers' logs write it.
fn mnemonic(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::NotImp => "NOTIMP",
        other => other.to_str(),
    }
}

//! Who is compared: what each one is started with, and how we know that it serves.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Result;
use crate::measure::SMALL;
use crate::process::Process;
use crate::wire::Connection;

/// How long a contender may take until it answers its first request.
const START_MAX: Duration = Duration::from_secs(15);
const START_POLL: Duration = Duration::from_millis(20);

/// A way from the client to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    /// No gateway: the floor of everything else.
    Direct,
    Nginx,
    Haproxy,
    Pingora,
    Arriero,
    /// Arriero in front of three nodes.
    ArrieroThree,
}

pub(crate) const ALL: [Contender; 6] = [
    Contender::Direct,
    Contender::Nginx,
    Contender::Haproxy,
    Contender::Pingora,
    Contender::Arriero,
    Contender::ArrieroThree,
];

/// A contender that answers at `addr`.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    /// `None` for direct.
    pub(crate) process: Option<Process>,
}

impl Contender {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Contender::Direct => "direct",
            Contender::Nginx => "nginx",
            Contender::Haproxy => "HAProxy",
            Contender::Pingora => "bare Pingora",
            Contender::Arriero => "arriero",
            Contender::ArrieroThree => "arriero, 3 nodes",
        }
    }

    /// Starts it in front of the first node, or of all of them, and waits for its first good answer.
    ///
    /// # Errors
    /// When its program is not there, ends, or does not answer in time; the text says which.
    pub(crate) async fn start(self, nodes: &[SocketAddr], dir: &Path) -> Result<Running> {
        if self == Contender::Direct {
            return Ok(Running {
                addr: nodes[0],
                process: None,
            });
        }
        fs::create_dir_all(dir)?;
        let addr = free_addr()?;
        let log = dir.join("log");
        let mut process = Process::start(&mut self.command(addr, nodes, dir)?, &log)?;
        let deadline = Instant::now() + START_MAX;
        while let Err(why) = answers(addr).await {
            if process.has_ended() {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let said = said.lines().next_back().unwrap_or("nothing");
                return Err(format!("it ended at once; its last words: {said}").into());
            }
            if deadline < Instant::now() {
                return Err(format!("no good answer in {START_MAX:?}: {why}").into());
            }
            sleep(START_POLL).await;
        }
        Ok(Running {
            addr,
            process: Some(process),
        })
    }

    fn command(self, addr: SocketAddr, nodes: &[SocketAddr], dir: &Path) -> Result<Command> {
        let node = nodes[0];
        match self {
            Contender::Direct => Err("direct is no program".into()),
            Contender::Nginx => nginx(addr, node, dir),
            Contender::Haproxy => haproxy(addr, node, dir),
            Contender::Pingora => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["passthrough", &addr.to_string(), &node.to_string()]);
                Ok(command)
            }
            Contender::Arriero => arriero(addr, &nodes[..1], dir),
            Contender::ArrieroThree => arriero(addr, nodes, dir),
        }
    }
}

async fn answers(addr: SocketAddr) -> Result<()> {
    let request = SMALL.bytes();
    let mut connection = Connection::open(addr).await?;
    match connection.exchange(&request, |_| ()).await? {
        200 => Ok(()),
        status => Err(format!("status {status}").into()),
    }
}

/// An address that was free a moment ago.
fn free_addr() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Debian keeps servers in `/usr/sbin`, which is not on everybody's `PATH`.
fn find_program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| format!("`{name}` is not installed").into())
}

fn nginx(addr: SocketAddr, node: SocketAddr, dir: &Path) -> Result<Command> {
    let here = dir.display();
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("  {name}_temp_path {here}/{name};\n"))
        .concat();
    let config = format!(
        "daemon off; master_process off; worker_processes 1; pid {here}/pid; error_log {here}/error.log;
events {{ worker_connections 4096; }}
http {{
{temp}  access_log off; client_max_body_size 100m; keepalive_requests 1000000000; tcp_nodelay on;
  upstream nodes {{ server {node}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen {addr};
    location / {{
      proxy_pass http://nodes; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;
      proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
"
    );
    let path = dir.join("nginx.conf");
    fs::write(&path, config)?;
    let mut command = Command::new(find_program("nginx")?);
    command.arg("-e").arg(dir.join("error.log"));
    command.arg("-p").arg(dir).arg("-c").arg(path);
    Ok(command)
}

fn haproxy(addr: SocketAddr, node: SocketAddr, dir: &Path) -> Result<Command> {
    // Without `http-no-delay` it holds tokens back to fill packets.
    let config = format!(
        "global
  nbthread 1
  maxconn 2000
defaults
  mode http
  option http-no-delay
  timeout connect 2s
  timeout client 600s
  timeout server 600s
frontend clients
  bind {addr}
  default_backend nodes
backend nodes
  http-reuse always
  server node {node}
"
    );
    let path = dir.join("haproxy.cfg");
    fs::write(&path, config)?;
    let mut command = Command::new(find_program("haproxy")?);
    command.arg("-db").arg("-f").arg(path);
    Ok(command)
}

fn arriero(addr: SocketAddr, nodes: &[SocketAddr], dir: &Path) -> Result<Command> {
    let admin = free_addr()?.port();
    let endpoints: String = nodes
        .iter()
        .map(|node| format!("      - {{ url: \"http://{node}\", type: ollama, slots: 10000 }}\n"))
        .collect();
    let config = format!(
        "server: {{ host: 127.0.0.1, port: {}, threads: 1 }}
admin: {{ host: 127.0.0.1, port: {admin} }}
discovery:
  type: static
  static:
    endpoints:
{endpoints}logging: {{ level: warn, access_log: false }}
",
        addr.port()
    );
    let path = dir.join("arriero.yaml");
    fs::write(&path, config)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_arriero"));
    command.arg("serve").arg("--config").arg(path);
    Ok(command)
}

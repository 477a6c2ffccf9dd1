//! The binary itself, started and stopped by a test.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use super::client::Raw;
use super::within;

/// A running `arriero`, killed when the test ends.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) addr: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on at the moment.
pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
}

/// The binary without arguments, in an environment that says nothing.
pub(crate) fn arriero() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arriero"));
    command
        .env_clear()
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null());
    command
}

/// The status of the readiness page, `None` when nobody answers.
pub(crate) async fn ready(admin: SocketAddr, query: &str) -> Option<u16> {
    tokio::net::TcpStream::connect(admin).await.ok()?;
    let mut raw = Raw::open(admin).await;
    raw.send_what_goes(format!(
        "GET /internal/ready{query} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    ))
    .await;
    Some(raw.head().await?.0)
}

impl Process {
    /// Starts a gateway and waits until it is ready to serve llama3.
    pub(crate) async fn start(mut command: Command) -> Process {
        let (addr, admin) = (free_port(), free_port());
        let child = command
            .env("ARRIERO_SERVER_PORT", addr.port().to_string())
            .env("ARRIERO_ADMIN_PORT", admin.port().to_string())
            .env("ARRIERO_LOGGING_FORMAT", "json")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("arriero starts");
        let process = Process { child, addr, admin };
        process.is_ready("llama3").await;
        process
    }

    /// Waits until a model can be asked.
    pub(crate) async fn is_ready(&self, model: &str) {
        let query = format!("?model={model}");
        within("readiness", async {
            while ready(self.admin, &query).await != Some(200) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(status.expect("kill runs").success());
    }
}

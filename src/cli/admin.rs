//! Where a running gateway's admin listener is, and one question to it: a small blocking HTTP/1.1 client.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use arriero::config::Config;
use clap::Args;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For the whole answer. A reload answers when the new configuration is in force.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Overrides `admin.key`, and so holds the key where there is no file.
const KEY_VARIABLE: &str = "ARRIERO_ADMIN_KEY";

/// Which gateway, and how to get in.
#[derive(Args)]
pub(crate) struct AdminArgs {
    /// Where the gateway's admin listener is; default: where the configuration puts it.
    #[arg(long, global = true, value_name = "URL")]
    admin: Option<String>,
    /// Environment variable that holds the admin key; default: the key of the configuration, or $ARRIERO_ADMIN_KEY.
    #[arg(long, global = true, value_name = "NAME")]
    key_env: Option<String>,
}

/// A gateway's admin listener.
pub(super) struct Admin {
    /// `host:port`, an IPv6 address in brackets.
    authority: String,
    key: Option<String>,
}

/// `arriero reload`.
pub(crate) fn reload(
    args: &AdminArgs,
    config: impl FnOnce() -> Result<Config, String>,
) -> Result<String, String> {
    args.find(config)?.ask("POST", "/internal/reload")
}

impl AdminArgs {
    /// The listener that is meant; the configuration is read only where it is needed.
    pub(super) fn find(
        &self,
        config: impl FnOnce() -> Result<Config, String>,
    ) -> Result<Admin, String> {
        let key = match &self.key_env {
            Some(name) => Some(
                std::env::var(name)
                    .map_err(|_| format!("the environment has no variable `{name}` (--key-env)"))?,
            ),
            None => None,
        };
        if let Some(url) = &self.admin {
            let key = key.or_else(|| std::env::var(KEY_VARIABLE).ok());
            let authority = authority(url)?;
            return Ok(Admin { authority, key });
        }
        // A mistake in the file is just when one wants to look.
        let admin = config().map_err(|why| {
            format!("{why}\n\nGive the address of the gateway's admin listener with --admin URL.")
        })?;
        let admin = admin.admin;
        let key = key.or_else(|| admin.key.map(|key| key.reveal().clone()));
        if admin.port == 0 {
            return Err("admin.port is 0, a free port that only the gateway's log tells; give its address with --admin URL".into());
        }
        let host = match admin.host {
            IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            host => host,
        };
        let authority = SocketAddr::new(host, admin.port).to_string();
        Ok(Admin { authority, key })
    }
}

/// `http://host:port[/]` → `host:port`.
fn authority(url: &str) -> Result<String, String> {
    let wrong = |why: &str| format!("--admin `{url}` {why}; write it like http://127.0.0.1:40115");
    if url.starts_with("https://") {
        return Err(wrong("speaks TLS, which the admin listener does not"));
    }
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".:[]-_".contains(c);
    if rest.is_empty() || !rest.chars().all(is_plain) {
        return Err(wrong("is not an address"));
    }
    let has_port = rest
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match has_port {
        true => Ok(rest.to_owned()),
        false => Err(wrong("names no port")),
    }
}

impl Admin {
    /// Asks for a page, or for something to be done; the body of the answer.
    ///
    /// # Errors
    /// What went wrong and what to do, when there is no answer or it is a refusal.
    pub(super) fn ask(&self, method: &str, path: &str) -> Result<String, String> {
        let lost = |error: std::io::Error| {
            format!(
                "the gateway at http://{} does not answer as it should: {error}; see its log",
                self.authority
            )
        };
        let key = self.key.as_deref().map(str::trim);
        if key.is_some_and(|key| key.contains(char::is_control)) {
            return Err("the admin key holds a character that no header can carry".to_owned());
        }
        let mut stream = self.connect()?;
        let key = key.map_or_else(String::new, |key| {
            format!("authorization: Bearer {key}\r\n")
        });
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\n{key}content-length: 0\r\nconnection: close\r\n\r\n",
            self.authority
        );
        stream.write_all(head.as_bytes()).map_err(lost)?;
        let answer = read(&mut stream).map_err(lost)?;
        let (status, body) = taken_apart(&answer).map_err(|why| {
            format!(
                "what answers at http://{} is no gateway: {why}",
                self.authority
            )
        })?;
        match status {
            200 => Ok(body),
            _ => Err(self.refused(status, &body)),
        }
    }

    fn connect(&self) -> Result<TcpStream, String> {
        let unreachable = |why: &dyn std::fmt::Display| {
            format!(
                "no gateway can be reached at http://{}: {why}; start one with `arriero serve`, or give its admin \
                 listener with --admin URL",
                self.authority
            )
        };
        let addrs = self.authority.to_socket_addrs();
        let mut last = None;
        for addr in addrs.map_err(|error| unreachable(&error))? {
            match TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    let timeout = Some(ANSWER_TIMEOUT);
                    let set = stream.set_write_timeout(timeout);
                    set.and_then(|()| stream.set_read_timeout(timeout))
                        .map_err(|error| unreachable(&error))?;
                    return Ok(stream);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(match last {
            Some(error) => unreachable(&error),
            None => unreachable(&"the name has no address"),
        })
    }

    fn refused(&self, status: u16, body: &str) -> String {
        let json: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        let said = json["error"].as_str().unwrap_or(body);
        let said: String = said
            .chars()
            .take(2000)
            .filter(|c| !c.is_control() || *c == '\n')
            .collect();
        let hint = match status {
            401 => {
                "; give the key of the gateway's configuration with -c FILE, or name a variable that holds it with --key-env NAME"
            }
            _ => "",
        };
        format!(
            "the gateway at http://{} answers {status}: {said}{hint}",
            self.authority
        )
    }
}

/// All bytes until the other side closes.
fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let error = |text: &str| Err(std::io::Error::other(text.to_owned()));
    let began = Instant::now();
    let mut answer = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        match stream.read(&mut piece)? {
            0 => return Ok(answer),
            n => answer.extend_from_slice(&piece[..n]),
        }
        if ANSWER_BYTES_MAX < answer.len() {
            return error("its answer is too long");
        }
        if ANSWER_TIMEOUT < began.elapsed() {
            return error("its answer takes too long");
        }
    }
}

/// The status and the body of a whole answer with `Content-Length`, which is all that the admin listener sends.
fn taken_apart(answer: &[u8]) -> Result<(u16, String), &'static str> {
    const END: &[u8] = b"\r\n\r\n";
    let end = answer.windows(END.len()).position(|four| four == END);
    let (head, body) = answer.split_at(end.ok_or("its answer has no head")? + END.len());
    let head = std::str::from_utf8(head).map_err(|_| "its answer's head is not text")?;
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    let status = words.next().and_then(|word| word.parse().ok());
    let status = status.filter(|_| is_http).ok_or("it does not speak HTTP")?;
    let length: Option<usize> = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok());
    match length {
        Some(length) if body.len() == length => (),
        Some(_) => return Err("its answer is cut off"),
        None => return Err("its answer has no length"),
    }
    let body = String::from_utf8(body.to_vec()).map_err(|_| "its answer is not text")?;
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let good = [
            ("http://127.0.0.1:40115", "127.0.0.1:40115"),
            ("http://gw.example:1/", "gw.example:1"),
            ("[::1]:40115", "[::1]:40115"),
        ];
        for (url, expected) in good {
            assert_eq!(authority(url).as_deref(), Ok(expected));
        }
        let bad = [
            "",
            "http://",
            "gw",
            "[::1]",
            "https://gw:1",
            "http://user@gw:1",
            "http://gw:1/path",
            "http://gw:1\r\nx: y",
            "http://gw:99999",
        ];
        for url in bad {
            let why = authority(url).expect_err(url);
            assert!(why.contains("http://127.0.0.1:40115"), "{why}");
        }
    }

    #[test]
    fn only_whole_answers_are_taken() {
        let cases = [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                Ok((200, "ok".to_owned())),
            ),
            (
                "HTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n",
                Ok((404, String::new())),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
                Err("its answer is cut off"),
            ),
            ("HTTP/1.1 200 OK\r\n\r\nok", Err("its answer has no length")),
            ("SSH-2.0-OpenSSH\r\n\r\n", Err("it does not speak HTTP")),
            ("", Err("its answer has no head")),
        ];
        for (answer, expected) in cases {
            assert_eq!(taken_apart(answer.as_bytes()), expected, "{answer:?}");
        }
    }
}

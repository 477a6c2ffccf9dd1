//! Where a file may be fetched from, and what it may be called here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::Fault;

/// Longest address, bytes; signed ones of object stores have up to 2000.
const URL_BYTES_MAX: usize = 8 * 1024;
/// Longest file name, bytes.
const NAME_BYTES_MAX: usize = 128;

/// An address a file is fetched from, in the one form that addresses compare by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Whether it is `https`.
    pub tls: bool,
    /// Lower case; an IPv6 address without its brackets.
    pub host: String,
    /// The scheme's own when none is written.
    pub port: u16,
    /// Begins with a slash.
    pub path: String,
    /// Without its question mark.
    pub query: Option<String>,
}

impl Source {
    /// Reads an `http://` or `https://` URL.
    ///
    /// # Errors
    /// 400 for anything that two readers could understand differently: a login, a fragment, backslashes, control characters,
    /// empty segments, `..`, or any of them in disguise.
    pub fn parse(url: &str) -> Result<Source, Fault> {
        let refused = |why: &str| {
            let message = format!("`url` can't be fetched: {why}; write a plain https:// address");
            Fault::malformed("bad_url", message)
        };
        if URL_BYTES_MAX < url.len() || !url.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(refused("it is too long or not plain ASCII"));
        }
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| refused("it has no scheme"))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(refused("its scheme is neither http nor https")),
        };
        if rest.contains(['#', '\\']) {
            return Err(refused("it holds a `#` or a backslash"));
        }
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query.to_owned())),
            None => (rest, None),
        };
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        let (host, port) =
            host_and_port(authority, tls).ok_or_else(|| refused("its host is no plain name"))?;
        let path = if path.is_empty() { "/" } else { path };
        if !is_plain_path(path) {
            return Err(refused("its path could be read in two ways"));
        }
        Ok(Source {
            tls,
            host,
            port,
            path: path.to_owned(),
            query,
        })
    }

    /// Where a redirect from here leads.
    ///
    /// # Errors
    /// As [`Source::parse`].
    pub fn redirected(&self, location: &str) -> Result<Source, Fault> {
        let scheme = if self.tls { "https" } else { "http" };
        if location.contains("://") && !location.starts_with('/') {
            Source::parse(location)
        } else if let Some(rest) = location.strip_prefix("//") {
            Source::parse(&format!("{scheme}://{rest}"))
        } else if location.starts_with('/') {
            Source::parse(&format!("{scheme}://{}{location}", self.authority()))
        } else {
            let folder = &self.path[..=self.path.rfind('/').unwrap_or(0)];
            let authority = self.authority();
            Source::parse(&format!("{scheme}://{authority}{folder}{location}"))
        }
    }

    /// Whether it begins with one of `management.download_hosts`.
    pub fn is_listed(&self, prefixes: &[String]) -> bool {
        prefixes
            .iter()
            .filter_map(|prefix| Source::parse(prefix).ok())
            .any(|prefix| {
                (prefix.tls, prefix.port) == (self.tls, self.port)
                    && prefix.host == self.host
                    && self.path.starts_with(&prefix.path)
            })
    }

    /// The `Host` header.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Path and query, as a request line has them.
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// The last segment of the path as a file's name; `None` when nothing is left of it.
    pub fn file_name(&self) -> Option<String> {
        file_name(self.path.rsplit('/').next().unwrap_or_default())
    }
}

/// A name that is safe as a file's and in a model's name: what a client wrote, its folders and everything unusual left out.
pub fn file_name(written: &str) -> Option<String> {
    let last = written.rsplit(['/', '\\']).next().unwrap_or_default();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = last
        .chars()
        .filter(|c| legal(*c))
        .take(NAME_BYTES_MAX)
        .collect();
    let name = name.trim_matches(['.', '-']).to_owned();
    (!name.is_empty()).then_some(name)
}

/// The model that a file becomes: its name without the extension.
pub fn model_name(file: &str) -> &str {
    match file.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => file,
    }
}

/// Whether an address is one of the public Internet: not of this machine, this network, a link, or a cloud's metadata service.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_multicast()
        || matches!(
            (a, b),
            (0 | 240..=255, _) | (100, 64..=127) | (198, 18 | 19)
        )
        || matches!((a, b, c), (192, 0, 0) | (192, 88, 99));
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        [0x2001, 0xdb8 | 0, ..] => false,
        // Only 2000::/3 has been given out.
        _ => (s[0] & 0xe000) == 0x2000,
    }
}

fn host_and_port(authority: &str, tls: bool) -> Option<(String, u16)> {
    let default = if tls { 443 } else { 80 };
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return Some((host.to_ascii_lowercase(), port(after, default)?));
    }
    let colon = authority.find(':').unwrap_or(authority.len());
    let (host, after) = authority.split_at(colon);
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if host.is_empty() || !host.bytes().all(legal) {
        return None; // a login's `@` and encoded letters end here, too
    }
    let host = host.to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    (!host.is_empty()).then_some((host.to_owned(), port(after, default)?))
}

/// `:8080`, or nothing.
fn port(after: &str, default: u16) -> Option<u16> {
    match after.strip_prefix(':') {
        Some(number) if number.bytes().all(|b| b.is_ascii_digit()) => {
            number.parse().ok().filter(|port| *port != 0)
        }
        None if after.is_empty() => Some(default),
        _ => None,
    }
}

fn is_plain_path(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let disguised = ["%2e", "%2f", "%5c", "%25", "%00"];
    let segments = path[1..].split('/');
    let last = path[1..].split('/').count() - 1;
    !disguised.iter().any(|code| lower.contains(code))
        && segments.enumerate().all(|(at, segment)| match segment {
            "" => at == last,
            segment => segment != "." && segment != "..",
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(url: &str, prefixes: &[&str]) -> Option<bool> {
        let prefixes: Vec<String> = prefixes.iter().map(|it| (*it).to_owned()).collect();
        Some(Source::parse(url).ok()?.is_listed(&prefixes))
    }

    #[test]
    fn only_what_begins_with_a_listed_prefix_is_fetched() {
        let hub = &["https://huggingface.co/", "http://files.lan:8080/models/"][..];
        let cases = [
            ("https://huggingface.co/a/b/resolve/main/x.gguf", Some(true)),
            ("HTTPS://HuggingFace.co/a?download=true", Some(true)),
            ("https://huggingface.co:443/a", Some(true)),
            ("https://huggingface.co./a", Some(true)),
            ("http://huggingface.co/a", Some(false)),
            ("https://huggingface.co:8443/a", Some(false)),
            ("https://huggingface.co.evil.org/a", Some(false)),
            ("https://evil.org/https://huggingface.co/", None),
            ("https://huggingface.co@evil.org/a", None),
            ("https://user:pw@huggingface.co/a", None),
            ("https://evil.org#huggingface.co/", None),
            ("https://evil.org\\.huggingface.co/", None),
            ("https://huggingface.co%2eevil.org/", None),
            ("http://files.lan:8080/models/x", Some(true)),
            ("http://files.lan:8080/other/x", Some(false)),
            ("http://files.lan:8080/models/../other/x", None),
            ("http://files.lan:8080/models/%2e%2e/other/x", None),
            ("http://files.lan:8080/models/%2E./x", None),
            ("http://files.lan:8080/models/..%2fx", None),
            ("http://files.lan:8080/models/%252e", None),
            ("http://files.lan:8080/models//x", None),
            ("http://files.lan:8080/models", Some(false)),
            ("ftp://files.lan/x", None),
            ("file:///etc/passwd", None),
            ("huggingface.co/x", None),
            ("https:///x", None),
            ("https://huggingface.co/a b", None),
            ("https://huggingface.co/é", None),
            ("https://huggingface.co:0/a", None),
            ("https://huggingface.co:99999/a", None),
        ];
        for (url, expected) in cases {
            assert_eq!(listed(url, hub), expected, "{url}");
        }
    }

    #[test]
    fn a_redirect_is_read_from_where_it_stands() {
        let from = Source::parse("https://a.org/x/y?q=1").unwrap();
        let cases = [
            ("https://b.org/z?t=%2F", "b.org/z?t=%2F"),
            ("//b.org/z", "b.org/z"),
            ("/z", "a.org/z"),
            ("z", "a.org/x/z"),
            ("/z?u=http://c.org/", "a.org/z?u=http://c.org/"),
        ];
        for (location, expected) in cases {
            let to = from.redirected(location).unwrap();
            assert_eq!(format!("{}{}", to.authority(), to.target()), expected);
        }
        assert!(from.redirected("../z").is_err());
        assert!(
            from.redirected("javascript:alert(1)")
                .is_ok_and(|to| to.host == "a.org")
        );
    }

    #[test]
    fn addresses_of_this_side_are_not_public() {
        let public = [
            "8.8.8.8",
            "140.82.121.4",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
        ];
        let ours = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "240.0.0.1",
            "203.0.113.7",
            "::",
            "::1",
            "fe80::1",
            "fd00:ec2::254",
            "fec0::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "::7f00:1",
        ];
        for ip in public {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ours {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn file_names_are_tame() {
        let cases = [
            ("x.Q4_K_M.gguf", Some("x.Q4_K_M.gguf"), "x.Q4_K_M"),
            ("../../etc/passwd", Some("passwd"), "passwd"),
            ("..\\..\\a b$.gguf", Some("ab.gguf"), "ab"),
            (".gguf", Some("gguf"), "gguf"),
            ("..", None, ""),
            ("", None, ""),
            ("é\0\n", None, ""),
        ];
        for (written, name, model) in cases {
            let got = file_name(written);
            assert_eq!(got.as_deref(), name, "{written}");
            assert_eq!(got.as_deref().map_or("", model_name), model, "{written}");
        }
        assert_eq!(file_name(&"a".repeat(1000)).unwrap().len(), NAME_BYTES_MAX);
    }
}

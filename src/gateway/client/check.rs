//! Which heads are let in: sizes, and framing that no two servers could read differently.

use http::Version;

use super::Client;
use crate::config::Server;
use crate::error::Fault;

/// Longest request target, bytes.
const URI_BYTES_MAX: usize = 8 * 1024;
/// Most header fields of a request.
const HEADERS_MAX: usize = 100;

impl Client<'_> {
    /// Refuses heads that are too large or whose framing two servers could read differently.
    ///
    /// # Errors
    /// 400, 414, 417 or 431.
    pub(in crate::gateway) fn check_head(&self, limits: &Server) -> Result<(), Fault> {
        let head = self.session.req_header();
        if head.raw_path().len() > URI_BYTES_MAX {
            let message =
                format!("the request target is longer than {URI_BYTES_MAX} bytes; shorten it");
            return Err(Fault::refused(414, "uri_too_long", message));
        }
        let bytes: usize = head
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        if head.headers.len() > HEADERS_MAX || bytes > limits.header_bytes_max {
            let message = format!(
                "the request has {} header fields of {bytes} bytes; the limits are {HEADERS_MAX} fields and {} bytes \
                 (server.request_limits.max_header_size)",
                head.headers.len(),
                limits.header_bytes_max
            );
            return Err(Fault::refused(431, "headers_too_large", message));
        }
        self.check_target()?;
        self.check_host()?;
        let mut expected = head.headers.get_all(http::header::EXPECT).iter();
        if expected.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
            return Err(Fault::refused(
                417,
                "unknown_expectation",
                "the only `Expect` we can meet is 100-continue",
            ));
        }
        self.check_framing()
    }

    /// A path or a URL, as written: Pingora completes what lacks its slash and forgets a fragment, other servers may not.
    fn check_target(&self) -> Result<(), Fault> {
        let Some(h1) = self.session.as_ref().as_http1() else {
            return Ok(());
        };
        let raw = h1.get_headers_raw_bytes();
        let target = target_of(&raw);
        let is_rooted = [&b"/"[..], b"http://", b"https://", b"*"]
            .iter()
            .any(|start| starts_with(target, start));
        if is_rooted && !target.contains(&b'#') {
            return Ok(());
        }
        Err(Fault::refused(
            404,
            "not_found",
            "the request target is no path that starts with `/` and has no `#fragment`; check the base URL",
        ))
    }

    /// HTTP/1.1 requires a Host, and RFC 9112 §3.2 that a malformed one is refused.
    fn check_host(&self) -> Result<(), Fault> {
        match self.headers().get(http::header::HOST) {
            None if self.version() == Version::HTTP_11 => Err(Fault::malformed(
                "no_host",
                "the request has no Host header, which HTTP/1.1 requires",
            )),
            Some(host) if !host.as_bytes().iter().all(|byte| is_of_host(*byte)) => Err(
                Fault::malformed("bad_host", "the Host header is no `name` or `name:port`"),
            ),
            _ => Ok(()),
        }
    }

    /// One `Content-Length` or one `Transfer-Encoding: chunked`, never both: anything else is how requests are smuggled.
    fn check_framing(&self) -> Result<(), Fault> {
        let headers = self.headers();
        let ambiguous = |what: &str| {
            Err(Fault::malformed(
                "ambiguous_framing",
                format!("{what}; send one Content-Length or chunked encoding, not more"),
            ))
        };
        let mut lengths = headers.get_all(http::header::CONTENT_LENGTH).iter();
        let length = lengths.next();
        if lengths.next().is_some() || length.is_some_and(|value| value.as_bytes().contains(&b','))
        {
            return ambiguous("the request has more than one Content-Length");
        }
        let mut codings = headers.get_all(http::header::TRANSFER_ENCODING).iter();
        let Some(coding) = codings.next() else {
            return Ok(());
        };
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return ambiguous("the request has a Transfer-Encoding other than `chunked`");
        }
        // Pingora has dropped a Content-Length beside it from the parsed head; the raw one still tells.
        match self.session.as_ref().as_http1() {
            Some(h1) if names_content_length(&h1.get_headers_raw_bytes()) => {
                ambiguous("the request has both Content-Length and Transfer-Encoding")
            }
            _ => Ok(()),
        }
    }
}

/// The middle of the request line, whatever stands there. Empty lines may come before it.
fn target_of(raw: &[u8]) -> &[u8] {
    let line = raw.trim_ascii_start();
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or(line);
    let mut words = line.splitn(2, |byte| *byte == b' ').skip(1);
    words.next().unwrap_or_default().trim_ascii_start()
}

fn starts_with(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(start))
}

/// What RFC 3986 allows in a host and port; the rarer delimiters, which no name has, are left out.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%[]:".contains(&byte)
}

/// Whether the raw head names a Content-Length.
fn names_content_length(raw: &[u8]) -> bool {
    raw.split(|byte| *byte == b'\n').any(|line| {
        line.get(..15)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"content-length:"))
    })
}

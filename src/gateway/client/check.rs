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
        if head.version == Version::HTTP_11 && !head.headers.contains_key(http::header::HOST) {
            return Err(Fault::malformed(
                "no_host",
                "the request has no Host header, which HTTP/1.1 requires",
            ));
        }
        if let Some(expected) = head.headers.get(http::header::EXPECT)
            && !expected.as_bytes().eq_ignore_ascii_case(b"100-continue")
        {
            return Err(Fault::refused(
                417,
                "unknown_expectation",
                "the only `Expect` we can meet is 100-continue",
            ));
        }
        self.check_framing()
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

/// Whether the raw head names a Content-Length.
fn names_content_length(raw: &[u8]) -> bool {
    raw.split(|byte| *byte == b'\n').any(|line| {
        line.get(..15)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"content-length:"))
    })
}

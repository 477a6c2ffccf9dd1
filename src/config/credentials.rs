//! What a node is shown and trusted by: headers, keys, passwords, certificates.

use http::{HeaderName, HeaderValue};

use super::problem::{Place, Problem};
use super::raw::{Tree, Value};
use super::schema::Form;
use super::section::{Section, Set};
use super::text::{Wrong, word};
use super::{ClientCertificate, NodeAuth, NodeTls, Secret};

const HEADERS_MAX: usize = 64;
/// Carries a key where neither the endpoint nor its type names another.
pub(super) const KEY_HEADER: &str = "X-Api-Key";

/// Headers that belong to the connection or to us.
const OWN_HEADERS: &[&str] = &[
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "expect",
];

pub(super) fn headers(s: &mut Section) -> Vec<(String, Secret<String>)> {
    // The names are free, so what stands below `headers` is no key of ours.
    s.learn("headers", Form::Free(Box::new(Form::Text)));
    let tree: Option<&Tree> = s.tree("headers");
    let section = Section::new(s.reading, &s.path_of("headers"), tree);
    let mut out = Vec::new();
    for entry in section.entries().iter().take(HEADERS_MAX) {
        let subject = format!("header `{}`", entry.key);
        let Value::Scalar(written) = &entry.tree.value else {
            s.reading.report(Problem::new(
                entry.tree.at,
                format!(
                    "{subject} must be a single value, and this is {}",
                    entry.tree.value.noun()
                ),
            ));
            continue;
        };
        let Some(text) = s.reading.expand(&subject, written, entry.tree.at) else {
            continue;
        };
        let set = Set {
            text,
            place: entry.tree.at,
            subject,
        };
        if HeaderName::from_bytes(entry.key.as_bytes()).is_err() {
            let wrong = Wrong::new("not a legal header name", "write letters, digits and `-`");
            s.reading.wrong(entry.at, &set.subject, wrong);
        } else if OWN_HEADERS.contains(&entry.key.to_ascii_lowercase().as_str()) {
            s.reading.wrong(
                entry.at,
                &set.subject,
                Wrong::new("the gateway sets it itself", "remove it"),
            );
        } else if let Some(value) = s.judge(&set, None, |text| header_value(text).map(Some)) {
            out.push((entry.key.clone(), value));
        }
    }
    if HEADERS_MAX < section.entries().len() {
        s.reading.report(Problem::new(
            section.place,
            format!("more than {HEADERS_MAX} headers"),
        ));
    }
    out
}

fn header_value(text: &str) -> Result<Secret<String>, Wrong> {
    // The value may be a secret, so the message does not show it.
    match HeaderValue::from_str(text) {
        Ok(_) => Ok(Secret::new(text.to_owned())),
        Err(_) => Err(Wrong::new(
            "the value cannot stand in a header",
            "it must be one line without control characters",
        )),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AuthType {
    None,
    Bearer,
    ApiKey,
    Basic,
}

const AUTH_TYPES: &[(&str, AuthType)] = &[
    ("none", AuthType::None),
    ("bearer", AuthType::Bearer),
    ("api_key", AuthType::ApiKey),
    ("basic", AuthType::Basic),
];
const AUTH_TYPES_LATER: &[&str] = &["session", "oauth2", "azure_ad", "openwebui"];

/// Tells the words of `type`, which must be done before anybody reads it.
pub(super) fn learn_type(s: &Section) {
    s.learn(
        "type",
        Form::word("none", AUTH_TYPES.iter().map(|(word, _)| *word)),
    );
}

pub(super) fn auth(mut s: Section, default_header: Option<&str>) -> NodeAuth {
    let kind = s.parse("type", AuthType::None, |text| {
        if AUTH_TYPES_LATER.contains(&text) {
            return Err(Wrong::new(
                format!("`{text}` is not in this version yet"),
                "write `none`, `bearer`, `api_key` or `basic`",
            ));
        }
        word(text, AUTH_TYPES)
    });
    let token = secret(&mut s, "token", "token_file", kind == AuthType::Bearer);
    let key = secret(&mut s, "key", "key_file", kind == AuthType::ApiKey);
    let header = s.text("header");
    let username = secret(&mut s, "username", "username_file", kind == AuthType::Basic);
    let password = secret(&mut s, "password", "password_file", kind == AuthType::Basic);
    if let Some(set) = header.as_ref().filter(|_| kind != AuthType::ApiKey) {
        refuse_stray(&s, set.place, "header");
    }
    let header = header.map_or_else(
        || default_header.unwrap_or(KEY_HEADER).to_owned(),
        |set| s.judge(&set, String::new(), header_name),
    );
    s.close();
    let text =
        |secret: Option<Secret<String>>| secret.unwrap_or_else(|| Secret::new(String::new()));
    match kind {
        AuthType::None => NodeAuth::None,
        AuthType::Bearer => NodeAuth::Bearer(text(token)),
        AuthType::ApiKey => NodeAuth::ApiKey {
            header,
            key: text(key),
        },
        AuthType::Basic => NodeAuth::Basic {
            username: text(username).reveal().clone(),
            password: text(password),
        },
    }
}

pub(super) fn header_name(text: &str) -> Result<String, Wrong> {
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Wrong::new(
            format!("`{text}` is not a header name"),
            "write letters, digits and `-`",
        )),
    }
}

fn refuse_stray(s: &Section, place: Place, key: &str) {
    let message = format!("`{key}` does not belong to this `auth.type`");
    let hint = "bearer takes `token`, api_key takes `key` and `header`, basic takes `username` and `password`";
    s.reading.report(Problem::new(place, message).hint(hint));
}

/// A secret written in place or kept in a file: exactly one of the two where it is `needed`, none where it is not.
fn secret(
    s: &mut Section,
    key: &'static str,
    key_of_file: &'static str,
    needed: bool,
) -> Option<Secret<String>> {
    let inline = s.text(key);
    let file = s.text(key_of_file);
    let place = s.place;
    let report = |place, message: String, hint: String| {
        s.reading.report(Problem::new(place, message).hint(hint))
    };
    let (set, is_file) = match (inline, file) {
        (Some(_), Some(file)) => {
            report(
                file.place,
                format!("`{key}` and `{key_of_file}` are both set"),
                "keep one of the two".to_owned(),
            );
            return None;
        }
        (None, None) => {
            // A value that could not be expanded has been told already.
            let told = s.is_written(key) || s.is_written(key_of_file);
            if needed && !told {
                report(
                    place,
                    format!("this `auth.type` needs `{key}`"),
                    format!(
                        "write `{key}: ${{VAR}}` or `{key_of_file}: /path`; an empty value counts as none"
                    ),
                );
            }
            return None;
        }
        (Some(set), None) => (set, false),
        (None, Some(set)) => (set, true),
    };
    if !needed {
        refuse_stray(s, set.place, if is_file { key_of_file } else { key });
        return None;
    }
    let text = if is_file {
        read_text(s, &set)?
    } else {
        set.text.clone()
    };
    s.judge(&Set { text, ..set }, None, |text| {
        header_value(text).map(Some)
    })
}

fn read_text(s: &Section, set: &Set) -> Option<String> {
    let bytes = read_bytes(s, set)?;
    let text = String::from_utf8(bytes)
        .ok()
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty());
    if text.is_none() {
        s.reading.wrong(
            set.place,
            &set.subject,
            Wrong::new(
                format!("`{}` holds no text", set.text),
                "put the secret into the file, as one line",
            ),
        );
    }
    text
}

fn read_bytes(s: &Section, set: &Set) -> Option<Vec<u8>> {
    match (s.reading.sources.read_file)(&set.text) {
        Ok(bytes) => Some(bytes),
        Err(why) => {
            let wrong = Wrong::new(
                format!("cannot read `{}`: {why}", set.text),
                "check the path and its permissions; a relative path starts in the working directory",
            );
            s.reading.wrong(set.place, &set.subject, wrong);
            None
        }
    }
}

pub(super) fn tls(mut s: Section, uses_tls: bool) -> NodeTls {
    let authority = s.text("ca");
    let tls = NodeTls {
        ca_pem: authority.and_then(|set| pem(&s, &set, CERTIFICATE)),
        insecure_skip_verify: s.flag("insecure_skip_verify", false),
        server_name: s.text("server_name").map(|set| set.text),
        client: client(&mut s),
    };
    let set = tls.ca_pem.is_some()
        || tls.insecure_skip_verify
        || tls.server_name.is_some()
        || tls.client.is_some();
    if !uses_tls && set {
        s.reading.report(
            Problem::new(
                s.place,
                "`tls` is set and the node is not spoken to over TLS",
            )
            .hint(
                "begin the URL with `https://` (a DNS name takes `scheme: https`), or remove `tls`",
            ),
        );
    }
    s.close();
    tls
}

/// The certificate we show, and its key: both or none.
fn client(s: &mut Section) -> Option<ClientCertificate> {
    match (s.text("cert"), s.text("key")) {
        (None, None) => None,
        (Some(cert), Some(key)) => {
            let cert_pem = pem(s, &cert, CERTIFICATE);
            let key_pem = pem(s, &key, PRIVATE_KEY);
            Some(ClientCertificate {
                cert_pem: cert_pem?,
                key_pem: Secret::new(key_pem?),
            })
        }
        // What could not be expanded has been told already.
        _ if s.is_written("cert") && s.is_written("key") => None,
        (Some(one), None) | (None, Some(one)) => {
            let message = "a client certificate needs both `tls.cert` and `tls.key`";
            let hint = "name the PEM file of the certificate and that of its private key";
            s.reading
                .report(Problem::new(one.place, message).hint(hint));
            None
        }
    }
}

/// What a PEM file is for and the line that shows it.
type Pem = (&'static str, &'static str);
const CERTIFICATE: Pem = ("certificate", "-----BEGIN CERTIFICATE-----");
/// Ends the first line of a key in any of its formats, `RSA` and `EC` included.
const PRIVATE_KEY: Pem = ("private key", "PRIVATE KEY-----");

fn pem(s: &Section, set: &Set, (noun, marker): Pem) -> Option<Vec<u8>> {
    let bytes = read_bytes(s, set)?;
    let marker_bytes = marker.as_bytes();
    let found = bytes
        .windows(marker.len())
        .any(|window| window == marker_bytes);
    if !found {
        let wrong = Wrong::new(
            format!("`{}` holds no PEM {noun}", set.text),
            format!("it must hold `{marker}`"),
        );
        s.reading.wrong(set.place, &set.subject, wrong);
    }
    found.then_some(bytes)
}

//! Certificates: whom we trust to be a node, what we show a node of ourselves, and what a failed handshake means.

use std::sync::Arc;

use pingora::protocols::tls::CaType;
use pingora::tls::{CertificateDer, PrivateKeyDer, RootCertStore};
use pingora::utils::tls::{CertKey, WrappedX509};
use x509_parser::error::X509Error;
use x509_parser::nom::Err as Unreadable;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::ClientCertificate;
use crate::error::{Fault, Kind};

/// Reads certificates in PEM. Each is tried in both ways it will be used: as X.509, where Pingora's own parser would panic, and
/// as an anchor of trust, which Pingora would find unusable only when it connects.
pub(super) fn authorities(node: &str, pem: &[u8]) -> Result<Arc<CaType>, Fault> {
    let refused = |why: &dyn std::fmt::Display| {
        let message = format!(
            "node `{node}`: the file of its `tls.ca` can't be used: {why}; put the certificates of the authorities there, in PEM"
        );
        Fault::new(Kind::Internal, message)
    };
    let mut anchors = RootCertStore::empty();
    let mut trusted = Vec::new();
    for block in Pem::iter_from_buffer(pem) {
        let block = block.map_err(|error| refused(&error))?;
        if block.label != "CERTIFICATE" {
            continue;
        }
        anchors
            .add(CertificateDer::from(block.contents.as_slice()))
            .map_err(|error| refused(&error))?;
        trusted.push(parsed(block.contents).map_err(|error| refused(&error))?);
    }
    if trusted.is_empty() {
        return Err(refused(&"it holds no certificate"));
    }
    Ok(trusted.into())
}

/// Our own certificate, with those that lead to its authority behind it, and its key. Pingora panics where they cannot be read, so they
/// are read here first.
pub(super) fn client(node: &str, written: &ClientCertificate) -> Result<Arc<CertKey>, Fault> {
    let refused = |key: &str, why: &dyn std::fmt::Display| {
        let message = format!(
            "node `{node}`: the file of its `tls.{key}` can't be used: {why}; write it in PEM"
        );
        Fault::new(Kind::Internal, message)
    };
    let mut certificates = Vec::new();
    for block in Pem::iter_from_buffer(&written.cert_pem) {
        let block = block.map_err(|error| refused("cert", &error))?;
        if block.label == "CERTIFICATE" {
            parsed(block.contents.clone()).map_err(|error| refused("cert", &error))?;
            certificates.push(block.contents);
        }
    }
    if certificates.is_empty() {
        return Err(refused("cert", &"it holds no certificate"));
    }
    let blocks = Pem::iter_from_buffer(written.key_pem.reveal());
    let mut keys = blocks
        .filter_map(Result::ok)
        .filter(|block| block.label.ends_with("PRIVATE KEY"));
    let key = keys.next().map(|block| block.contents);
    match key {
        Some(key) if PrivateKeyDer::try_from(key.as_slice()).is_ok() => {
            Ok(Arc::new(CertKey::new(certificates, key)))
        }
        Some(_) => Err(refused(
            "key",
            &"its private key is of no kind that is known, or is encrypted",
        )),
        None => Err(refused("key", &"it holds no private key")),
    }
}

fn parsed(der: Vec<u8>) -> Result<WrappedX509, Unreadable<X509Error>> {
    WrappedX509::try_new(der, |der| {
        X509Certificate::from_der(der).map(|(_, certificate)| certificate)
    })
}

/// What a failed handshake means. The TLS library's own error is gone by now; only its text is left.
pub(in crate::gateway) fn tls_failure(text: &str) -> String {
    let told = text
        .split_once("invalid peer certificate: ")
        .map(|(_, rest)| rest.split(", SNI: ").next().unwrap_or(rest));
    match told {
        Some(why) => format!(
            "its certificate is not trusted: {why} (see tls.ca and tls.server_name of the endpoint)"
        ),
        None => "the TLS handshake failed; does it serve https?".into(),
    }
}

//! What a request's head says of whose it is and how urgent.

use super::Client;
use crate::admission::{Claim, Told};
use crate::config::TenantSource;

impl Client<'_> {
    /// Whose request it is and how urgent, as far as it says.
    pub(in crate::gateway) fn claim(&self, sources: &[TenantSource]) -> Claim {
        let headers = self.headers();
        let said = |name: &str| headers.get(name).map_or(&b""[..], |value| value.as_bytes());
        let peer = self.session.client_addr().and_then(|it| it.as_inet());
        let told = Told {
            user: said("x-openwebui-user-id"),
            key: match said("authorization") {
                b"" => said("x-api-key"),
                key => key,
            },
            peer: peer.map(|address| address.ip()),
            task: said("x-task"),
            priority: said("x-arriero-priority"),
        };
        Claim::new(&told, sources)
    }
}

//! Which node: route() = filter → score → pick. Stub.
